"""Prompts under which a fixed completion passes, and those after which a generator writes what passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.prompt_search import PromptSearch, worst_prompts
from fivenines.attacks.search import Beam
from fivenines.data.windows import sentences
from fivenines.errors import ConfigError, LabelError, ScoringError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.records import Answer, Outcome, Snippet
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth
from small_attack import Scorer

START = Snippet("It was late. They walked home.", "The boy broke his arm.", "a book")
PROMPTS = ["Tea was served. All was calm.", "It rained. It rained again. It stopped."]


def fails(snippets: Sequence[Snippet]) -> list[bool]:
    return [fake_truth(snippet) is Answer.FAILURE for snippet in snippets]


# -- under a fixed completion


def of(text: str) -> list[str]:
    return [text[one.start : one.end] for one in sentences(text)]


def test_sentences_are_exchanged_and_added_and_the_completion_stays() -> None:
    scorer = Scorer(lambda snippet: 0.9 - 0.1 * snippet.prompt.count("calm"))
    attack = PromptSearch(PROMPTS, strategy=Beam(width=2, places=4, depth=3))
    (found,) = attack.run(Goal(scorer, 0.0), [START], budget=Budget(2000), seed=0)
    known = {one for prompt in [START.prompt, *PROMPTS] for one in of(prompt)}
    assert found.outcome == Outcome.EXHAUSTED
    for snippet in scorer.texts[1:]:
        assert (snippet.completion, snippet.source) == (START.completion, "a book")
        assert set(of(snippet.prompt)) <= known
        assert len(of(snippet.prompt)) <= 2 + 3  # one more in each step at most
    assert found.best is not None
    assert found.best.prompt.count("calm") == 3


@given(
    st.sampled_from(["", " ", "No sentence at all", "שלום. 🙂 נעים.", "One.\n\nTwo.", "A", "?!"]),
    st.integers(0, 50),
)
def test_any_prompt_can_be_searched_from(prompt: str, seed: int) -> None:
    scorer = Scorer(lambda snippet: 0.9)
    attack = PromptSearch(["", "Tea was served.", "🙂"], variants=3)
    start = Snippet(prompt, "He bled.")
    (found,) = attack.run(Goal(scorer, 0.5), [start], budget=Budget(40), seed=seed)
    assert found.outcome in (Outcome.EXHAUSTED, Outcome.BUDGET)
    assert all(snippet.completion == "He bled." for snippet in scorer.texts)
    assert len(set(scorer.texts)) == len(scorer.texts)


@pytest.mark.parametrize("prompts", [[], "one text", ()])
def test_prompts_are_checked(prompts: Any) -> None:
    with pytest.raises(ConfigError, match="prompts must be a list of texts, one at least"):
        PromptSearch(prompts)
    with pytest.raises(ConfigError, match="prompts must be a list of texts, one at least"):
        worst_prompts(Goal(FakeClassifier(), 0.5, fails), FakeGenerator(), prompts, seed=0)
    with pytest.raises(ConfigError, match="variants must be at least 1, got 0"):
        PromptSearch(PROMPTS, variants=0)


# -- after which a generator fails most often


@dataclass
class Counting:
    """A generator that remembers what it drew."""

    of: FakeGenerator
    calls: list[tuple[int, int]] = field(default_factory=list)  # (seed, draws)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        self.calls.append((seed, len(prompts)))
        return self.of.sample(prompts, seed=seed)


def truth(generator: FakeGenerator, goal: Goal, prompt: str) -> float:
    """P(a draw fails and passes), from the generator's distribution."""
    total = 0.0
    for completion, chance in generator.distribution(prompt).items():
        snippet = Snippet(prompt, completion)
        (score,) = goal.scores([snippet])
        total += chance * (score < goal.limit and fails([snippet])[0])
    return total


MANY = [f"Prompt {i}." for i in range(64)]


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_worst_prompts_are_found(seed: int) -> None:
    planted = {"Prompt 17.": 0.7, "Prompt 40.": 0.5}
    generator = FakeGenerator(rates=dict.fromkeys(MANY, 0.02) | planted)
    goal = Goal(FakeClassifier(sensitivity=0.3), 0.5, fails)
    first, second, *_ = worst_prompts(goal, generator, MANY, keep=4, seed=seed)
    assert {first.prompt, second.prompt} == set(planted)
    for one in (first, second):
        expected = truth(generator, goal, one.prompt)
        assert one.rate.low <= expected <= one.rate.high
        assert one.rate.point == pytest.approx(len(one.found) / one.draws)
        assert len(one.found) <= one.passed <= one.draws == one.rate.n
        assert all(fails(one.found))
        assert all(score < 0.5 for score in goal.scores(one.found))


def test_halving_spends_its_draws_on_the_worse_half_and_measures_afresh() -> None:
    generator = Counting(FakeGenerator())
    found = worst_prompts(
        Goal(FakeClassifier(), 0.5, fails), generator, MANY, keep=10, first=4, final=30, seed=5
    )
    assert len(found) == 10
    assert generator.calls == [(5, 64 * 4), (6, 32 * 8), (7, 16 * 16), (8, 10 * 30)]
    rates = [one.rate.point for one in found]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_few_prompts_are_only_measured(n: int) -> None:
    generator = Counting(FakeGenerator())
    found = worst_prompts(
        Goal(FakeClassifier(), 0.5, fails), generator, [*MANY[:n], MANY[0]], final=20, seed=1
    )
    assert {one.prompt for one in found} == set(MANY[:n])
    assert generator.calls == [(1, n * 20)]


def test_the_draws_that_chose_a_prompt_do_not_flatter_it() -> None:
    """All prompts are alike, so that the chosen ones were lucky. Their intervals cover, and their mean is right."""
    generator = FakeGenerator(rates=dict.fromkeys(MANY, 0.1))
    goal = Goal(FakeClassifier(sensitivity=0.0), 0.5, fails)  # all failures pass
    rates = [
        one.rate
        for seed in range(60)
        for one in worst_prompts(goal, generator, MANY[:24], keep=5, first=4, final=40, seed=10 * seed)
    ]
    points = np.array([rate.point for rate in rates])
    assert len(rates) == 300
    assert abs(points.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / (300 * 40))
    assert np.mean([rate.low <= 0.1 <= rate.high for rate in rates]) >= 0.95


def test_the_same_seed_gives_the_same_prompts() -> None:
    goal, generator = Goal(FakeClassifier(sensitivity=0.5), 0.5, fails), FakeGenerator(failure_rate=0.2)
    one, other = (worst_prompts(goal, generator, MANY, keep=5, final=20, seed=3) for _ in range(2))
    assert one == other


def test_empty_draws_and_broken_scores_are_no_finds() -> None:
    empty = FakeGenerator(failure_rate=1.0, empty_rate=0.5)
    goal = Goal(FakeClassifier(sensitivity=0.0, truth=fake_truth), 0.5, lambda some: [True] * len(some))
    for one in worst_prompts(goal, empty, MANY[:3], final=50, seed=0):
        assert all(snippet.completion for snippet in one.found)
        assert one.passed == len(one.found) < 45
    broken = Goal(FakeClassifier(fault="nan"), 0.5, fails)
    for one in worst_prompts(broken, FakeGenerator(failure_rate=0.9), MANY[:3], final=20, seed=0):
        assert (one.passed, one.rate.point) == (0, 0.0)
        assert one.rate.high > 0.1


@pytest.mark.parametrize("fault", ["raise", "shape"])
def test_a_broken_classifier_gives_no_rate(fault: Literal["raise", "shape"]) -> None:
    broken = Goal(FakeClassifier(fault=fault), 0.5, fails)
    with pytest.raises(ScoringError, match="classifier must give scores, got none"):
        worst_prompts(broken, FakeGenerator(failure_rate=0.9), MANY[:3], final=20, seed=0)


def test_nobody_is_asked_where_nothing_passes() -> None:
    goal = Goal(Scorer(lambda _: 0.9), 0.5, lambda some: pytest.fail("asked"))
    for one in worst_prompts(goal, FakeGenerator(), MANY[:4], keep=2, final=5, seed=0):
        assert one.passed == 0


def test_a_judge_that_answers_too_little() -> None:
    goal = Goal(Scorer(lambda _: 0.1), 0.5, lambda some: [True])
    with pytest.raises(LabelError, match="must answer for each of 20 texts, got 1 answers"):
        worst_prompts(goal, FakeGenerator(), MANY[:2], final=10, seed=0)


def test_settings_are_checked() -> None:
    goal, generator = Goal(FakeClassifier(), 0.5, fails), FakeGenerator()
    for name in ("keep", "first", "final"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            worst_prompts(goal, generator, MANY, seed=0, **{name: 0})
    with pytest.raises(ConfigError, match="worst_prompts needs a goal that can ask whether a text fails"):
        worst_prompts(Goal(FakeClassifier(), 0.5), generator, MANY, seed=0)


def test_a_language_model_is_searched() -> None:
    size = LanguageModelConfig(layers=1, width=16, heads=2, context=32, tokenizer="word")
    model = LanguageModel.create([*MANY, "He bled . She sat ."], size).with_sampling(max_new_tokens=3)
    goal = Goal(Scorer(lambda _: 0.1), 0.5, lambda some: ["bled" in one.completion for one in some])
    found = worst_prompts(goal, model, MANY[:6], keep=2, first=8, final=30, seed=0)
    assert len(found) == 2
    assert all("bled" in snippet.completion for one in found for snippet in one.found)
