"""Known failures under other prompts, and failures drawn from a generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.recombination import Recombination
from fivenines.attacks.sampling import Sampling
from fivenines.errors import ConfigError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.records import Answer, Attempt, Outcome, Snippet
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth
from small_attack import Scorer

START = Snippet("It was late.", "The boy broke his arm.", "a book", {"stratum": 3})
PROMPTS = [f"Prompt {i}." for i in range(20)]


def fails(snippets: Sequence[Snippet]) -> list[bool]:
    return [fake_truth(snippet) is Answer.FAILURE for snippet in snippets]


def recombined(attack: Recombination, scorer: Scorer, **more: Any) -> Attempt:
    (found,) = attack.run(
        Goal(scorer, 0.5, more.get("fails")), [START], budget=Budget(more.get("queries", 100)), seed=0
    )
    return found


def test_every_prompt_is_tried_once_in_random_order() -> None:
    scorer = Scorer(lambda _: 0.9)
    found = recombined(Recombination([*PROMPTS, PROMPTS[3], START.prompt]), scorer)
    assert (found.outcome, found.queries) == (Outcome.EXHAUSTED, 21)
    tried = [snippet.prompt for snippet in scorer.texts[1:]]
    assert sorted(tried) == sorted(PROMPTS)
    assert tried != PROMPTS
    for snippet in scorer.texts[1:]:
        assert (snippet.completion, snippet.source, dict(snippet.meta)) == (START.completion, "a book", {})


def test_it_ends_with_the_batch_that_holds_one_that_passes() -> None:
    scorer = Scorer(lambda snippet: 0.2 if snippet.prompt == "Prompt 7." else 0.9)
    found = recombined(Recombination(PROMPTS, at_a_time=4), scorer)
    assert (found.outcome, found.best) == (Outcome.FOOLED, Snippet("Prompt 7.", START.completion))
    assert [len(batch) for batch in scorer.asked] == [1] + [4] * (len(scorer.asked) - 1)
    assert "Prompt 7." in [snippet.prompt for snippet in scorer.asked[-1]]


def test_at_most_so_many_prompts() -> None:
    assert recombined(Recombination(PROMPTS, tries=5, at_a_time=3), Scorer(lambda _: 0.9)).queries == 6
    assert recombined(Recombination([]), Scorer(lambda _: 0.9)).outcome == Outcome.EXHAUSTED
    assert recombined(Recombination([""]), Scorer(lambda _: 0.9)).queries == 2


def test_recombination_is_checked() -> None:
    with pytest.raises(ConfigError, match="prompts must be a list of texts, got one text"):
        Recombination("one text")
    for name in ("tries", "at_a_time"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            Recombination(PROMPTS, **{name: 0})  # type: ignore[arg-type]


# -- drawing


@dataclass
class Counting:
    """A generator that remembers its draws."""

    of: Any
    calls: list[tuple[tuple[str, ...], int]] = field(default_factory=list)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        self.calls.append((tuple(prompts), seed))
        drawn: list[str] = self.of.sample(prompts, seed=seed)
        return drawn


def sampled(
    attack: Sampling, starts: Sequence[Snippet], queries: int = 1000, **classifier: Any
) -> list[Attempt]:
    goal = Goal(FakeClassifier(**classifier), 0.5, fails)
    return list(attack.run(goal, starts, budget=Budget(queries), seed=0))


def test_it_draws_until_a_failure_passes() -> None:
    generator = Counting(FakeGenerator(failure_rate=0.3, variants=30))
    starts = [Snippet(prompt, "", "a book") for prompt in PROMPTS]
    found = sampled(Sampling(generator, draws=64), starts, sensitivity=0.5)
    assert {one.outcome for one in found} == {Outcome.FOOLED, Outcome.EXHAUSTED}
    for one in found:
        draws = [seed for prompts, seed in generator.calls if prompts == (one.start.prompt,) * 16]
        assert 1 <= len(draws) == len(set(draws)) <= 4
        assert one.start_score is None
        assert one.queries <= 16 * len(draws)  # what was drawn before costs nothing
        if one.fooled:
            assert one.succeeded
            assert one.best is not None
            assert (one.best.prompt, one.best.source) == (one.start.prompt, "a book")
            assert fails([one.best]) == [True]


def test_draws_do_not_depend_on_company() -> None:
    starts = [Snippet(prompt, "") for prompt in PROMPTS[:4]]
    attack = Sampling(FakeGenerator(failure_rate=0.3, variants=30), draws=64)
    together = {one.start: (one.best, one.queries, one.outcome) for one in sampled(attack, starts)}
    for start in starts:
        (one,) = sampled(attack, [start])
        assert together[start] == (one.best, one.queries, one.outcome)


def test_the_last_draws_make_up_the_number() -> None:
    generator = Counting(FakeGenerator(failure_rate=0.0, variants=3))
    (found,) = sampled(Sampling(generator, draws=52, at_a_time=16), [Snippet("p", "")])
    assert [len(prompts) for prompts, _ in generator.calls] == [16, 16, 16, 4]
    assert (found.outcome, found.queries) == (Outcome.EXHAUSTED, 3)  # three different texts


def test_empty_draws_are_not_scored() -> None:
    (found,) = sampled(Sampling(FakeGenerator(empty_rate=1.0), draws=20), [Snippet("p", "")])
    assert (found.outcome, found.queries, found.best) == (Outcome.EXHAUSTED, 0, None)


def test_without_a_budget_nothing_is_drawn() -> None:
    generator = Counting(FakeGenerator())
    (found,) = sampled(Sampling(generator), [Snippet("p", "")], queries=0)
    assert (found.outcome, generator.calls) == (Outcome.BUDGET, [])


def test_it_needs_somebody_to_ask() -> None:
    attack = Sampling(FakeGenerator())
    with pytest.raises(ConfigError, match="attack sampling needs a goal that can ask whether a text fails"):
        list(attack.run(Goal(FakeClassifier(), 0.5), [Snippet("p", "")], budget=Budget(5), seed=0))
    for name in ("draws", "at_a_time"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            Sampling(FakeGenerator(), **{name: 0})  # type: ignore[arg-type]


def test_a_language_model_is_drawn_from() -> None:
    size = LanguageModelConfig(layers=1, width=16, heads=2, context=32, tokenizer="word")
    model = LanguageModel.create([*PROMPTS, "He bled . She sat ."], size).with_sampling(max_new_tokens=3)
    goal = Goal(Scorer(lambda _: 0.1), 0.5, lambda some: ["bled" in one.completion for one in some])
    starts = [Snippet(prompt, "") for prompt in [*PROMPTS[:3], "🙂 שלום"]]
    found = list(Sampling(model, draws=200).run(goal, starts, budget=Budget(500), seed=0))
    assert all(one.succeeded for one in found)
