"""The red team: counts that can be recounted, kills, budgets, and attacks that get better."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fivenines.conditional.measuring.attack_rates import attack_rates, attack_ratio, pool_scores
from fivenines.conditional.measuring.evolving import EvolvingAttacker
from fivenines.conditional.measuring.few_shot import FewShotAttacker
from fivenines.conditional.measuring.prompt_pool import PromptPool
from fivenines.conditional.measuring.red_team import (
    RedTeamConfig,
    RedTeamRun,
    Target,
    measure_prompt,
    red_team,
)
from fivenines.errors import ConfigError, DataError, ScoringError
from fivenines.records import Snippet
from fivenines.storyworld import write_prompts
from fivenines.testing import FakeClassifier, FakeGenerator
from small_red_team import Counting, Numbers, fails, spelling_target, story_target

STARTS = ["Once upon a time.", "It was late.", "Nobody came."]
SMALL = RedTeamConfig(rounds=3, prompts=4, completions=30, trials=2)
FAKE = Target("fake", FakeGenerator(0.3), FakeClassifier(), fails)


def test_counts_can_be_recounted() -> None:
    run = red_team(Numbers(), FAKE, STARTS, config=SMALL)
    assert run.finished
    assert run.confirmed
    assert len(run.attacked) == 2 * 3 * 4
    assert [(each.trial, each.round) for each in run.attacked[::4]] == [
        (t, r) for t in (1, 2) for r in (1, 2, 3)
    ]
    again = red_team(Numbers(), FAKE, STARTS, config=SMALL)
    assert again == run
    assert red_team(Numbers(), FAKE, STARTS, config=replace(SMALL, seed=1)) != run
    for each in run.attacked:
        assert each.completions == 30
        assert each.unscored == 0
        assert each.score is not None
        assert each.worst_score is not None
        assert each.score <= each.worst_score
        assert float(FAKE.scorer.scores([Snippet(each.prompt, each.worst)])[0]) == each.worst_score
    assert len(run.pool(1)) == 3 + 12
    assert len(run.pool(1, 2)) == 3 + 8


def test_a_prompt_is_measured_as_by_hand() -> None:
    found = measure_prompt(FAKE, "A prompt.", replace(SMALL, completions=200), at=(1, 2), seed=5)
    texts = FAKE.generator.sample(["A prompt."] * 200, seed=5)
    snippets = [Snippet("A prompt.", text) for text in texts]
    scores = FAKE.scorer.scores(snippets)
    assert found.score == pytest.approx(scores.mean())
    assert found.flagged == int((scores >= 0.5).sum())
    assert found.failures == sum(map(fails, snippets))
    assert texts[int(scores.argmax())] == found.worst


@pytest.mark.parametrize("kill_after", [0, 1, 5, 11, 23])
def test_a_killed_run_goes_on_as_if_undisturbed(tmp_path: Path, kill_after: int) -> None:
    whole = red_team(Numbers(), FAKE, STARTS, config=SMALL)
    generator = Counting(FakeGenerator(0.3), kill_after)
    with pytest.raises(KeyboardInterrupt):
        red_team(Numbers(), replace(FAKE, generator=generator), STARTS, tmp_path, config=SMALL)
    second = Counting(FakeGenerator(0.3))
    run = red_team(Numbers(), replace(FAKE, generator=second), STARTS, tmp_path, config=SMALL)
    assert run == whole
    assert second.calls == 24 - kill_after
    third = Counting(FakeGenerator(0.3), 0)
    assert red_team(Numbers(), replace(FAKE, generator=third), STARTS, tmp_path, config=SMALL) == whole


def test_a_language_model_is_not_asked_again(tmp_path: Path) -> None:
    """What it proposed is kept before the first prompt is measured: a model may answer otherwise another day."""
    model = Counting(FakeGenerator(0.5, variants=40))
    attacker = FewShotAttacker(model, tries=1)
    with pytest.raises(KeyboardInterrupt):
        red_team(
            attacker, replace(FAKE, generator=Counting(FakeGenerator(), 2)), STARTS, tmp_path, config=SMALL
        )
    assert model.calls == 1
    red_team(attacker, FAKE, STARTS, tmp_path, config=replace(SMALL))
    assert model.calls == 6


def test_time_ends_and_the_run_goes_on_another_time(tmp_path: Path) -> None:
    stopped = red_team(Numbers(), FAKE, STARTS, tmp_path, config=replace(SMALL, seconds=0.0))
    assert stopped.attacked == ()
    assert not stopped.finished

    @dataclass(frozen=True)
    class Slow:
        def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
            time.sleep(0.02)
            return FakeGenerator(0.3).sample(prompts, seed=seed)

    part = red_team(
        Numbers(), replace(FAKE, generator=Slow()), STARTS, tmp_path, config=replace(SMALL, seconds=0.15)
    )
    assert not part.finished
    assert len(part.attacked) in (0, 4, 8)  # whole rounds
    run = red_team(Numbers(), FAKE, STARTS, tmp_path, config=SMALL)
    assert run.finished
    assert run.attacked == red_team(Numbers(), FAKE, STARTS, config=SMALL).attacked


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    red_team(Numbers(), FAKE, STARTS, tmp_path, config=SMALL)
    with pytest.raises(
        ConfigError, match=r"completions of the red team in .* must be 31, got 30\. Delete the folder"
    ):
        red_team(Numbers(), FAKE, STARTS, tmp_path, config=replace(SMALL, completions=31))
    with pytest.raises(ConfigError, match=r"target of the red team in .* must be 'other', got 'fake'"):
        red_team(Numbers(), replace(FAKE, name="other"), STARTS, tmp_path, config=SMALL)
    with pytest.raises(ConfigError, match="starts of the red team"):
        red_team(Numbers(), FAKE, STARTS[:2], tmp_path, config=SMALL)
    with pytest.raises(ConfigError, match="attacker of the red team"):
        red_team(Numbers("others"), FAKE, STARTS, tmp_path, config=SMALL)
    file = tmp_path / "trial-001" / "round-002.json"
    file.write_text(json.dumps({"proposed": ["a"]}), encoding="utf-8")
    with pytest.raises(DataError, match="must be a round of a red team"):
        red_team(Numbers(), FAKE, STARTS, tmp_path, config=SMALL)
    (tmp_path / "settings.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="must be the settings of a red team"):
        red_team(Numbers(), FAKE, STARTS, tmp_path, config=SMALL)
    assert not [name for name in os.listdir(tmp_path / "trial-001") if "partial" in name]


def test_texts_without_scores() -> None:
    spotty = replace(FAKE, scorer=FakeClassifier(fault="nan", fault_rate=0.4))
    run = red_team(Numbers(), spotty, STARTS, config=replace(SMALL, completions=60))
    assert 0.2 < sum(each.unscored for each in run.attacked) / (24 * 60) < 0.6
    assert all(each.failures is not None for each in run.attacked)
    blind = replace(FAKE, scorer=FakeClassifier(fault="nan"))
    run = red_team(Numbers(), blind, STARTS, config=SMALL)
    assert {(each.score, each.worst, each.flagged) for each in run.attacked} == {(None, "", 0)}
    assert len(run.pool(1)) == 3
    with pytest.raises(ScoringError, match="classifier must give probabilities"):
        red_team(Numbers(), replace(FAKE, scorer=FakeClassifier(fault="raise")), STARTS, config=SMALL)


def test_the_scorer_may_be_shown_the_completion_alone() -> None:
    class Promptless:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            assert {snippet.prompt for snippet in snippets} == {""}
            return np.array([0.75 if fails(snippet) else 0.0 for snippet in snippets])

    run = red_team(
        Numbers(), Target("fake", FakeGenerator(0.3), Promptless(), alone=True), STARTS, config=SMALL
    )
    assert not run.confirmed
    assert all(each.failures is None for each in run.attacked)
    truly = red_team(Numbers(), FAKE, STARTS, config=SMALL)
    assert [each.flagged for each in run.attacked] == [each.failures for each in truly.attacked]


def test_bad_attackers_and_targets_are_told() -> None:
    @dataclass(frozen=True)
    class Bad:
        prompts: tuple[str, ...]
        name: str = "bad"

        def propose(self, pool: PromptPool, n: int, *, seed: int) -> list[str]:
            return list(self.prompts)

    for prompts in (("a", "a"), (" ",), tuple("abcde")):
        with pytest.raises(DataError, match="the attacker must propose at most 4 prompts, all different"):
            red_team(Bad(prompts), FAKE, STARTS, config=SMALL)
    assert red_team(Bad(()), FAKE, STARTS, config=SMALL).attacked == ()

    class Short:
        def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
            return ["text"]

    with pytest.raises(DataError, match="the target must write 30 completions, got 1"):
        red_team(Numbers(), replace(FAKE, generator=Short()), STARTS, config=SMALL)
    for wrong in ({"rounds": 0}, {"threshold": 2.0}, {"seed": -1}, {"seconds": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RedTeamConfig(**wrong)
    assert RedTeamConfig().cost == 10 * 10 * 20 * 512


def spelling_run(worst: float, seed: int = 0) -> RedTeamRun:
    def fresh(n: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [" ".join(f"{w}." for w in rng.choice(["bad", "good", "fair", "odd"], 4)) for _ in range(n)]

    config = RedTeamConfig(rounds=6, prompts=8, completions=60, trials=3, seed=seed)
    attacker = EvolvingAttacker(fresh, temperature=0.05)
    return red_team(attacker, spelling_target(worst), fresh(8, 99), config=config)


def test_the_evolving_attack_gets_better_and_tells_models_apart() -> None:
    strong = spelling_run(0.8)
    rates = attack_rates(strong)
    assert rates[-1].found.low > rates[0].found.high
    logs = pool_scores(strong)
    assert logs[-1].best >= logs[0].best
    assert logs[-1].best >= logs[-1].best_10 >= logs[-1].best_100 >= logs[-1].average
    ratio = attack_ratio(spelling_run(0.08, seed=1), strong)
    assert ratio.found.high < 0.5
    assert ratio.found.low < 0.1
    assert ratio.fold.low > 2.0


def test_storyworld_is_attacked_in_its_own_words() -> None:
    config = RedTeamConfig(rounds=6, prompts=10, completions=50, trials=2, seed=3)
    attacker = EvolvingAttacker(lambda n, seed: write_prompts(n, seed), temperature=0.02, label="storyworld")
    starts = write_prompts(20, 1)
    run = red_team(attacker, story_target(), starts, config=config)
    rates = attack_rates(run)
    assert 0.01 < rates[0].found.point < 0.12
    late = sum(rate.hits for rate in rates[-2:]) / sum(rate.completions for rate in rates[-2:])
    assert late > 1.5 * rates[0].found.point
    meek = red_team(attacker, story_target(0.9), starts, config=config)
    assert attack_ratio(meek, run).found.high < 0.5
    some = replace(config, rounds=2)
    assert red_team(attacker, story_target(), starts, config=some).attacked == tuple(
        each for each in run.attacked if each.trial == 1 and each.round < 3
    ) + tuple(each for each in run.attacked if each.trial == 2 and each.round < 3)
