"""Swaps for words of the classifier's own vocabulary, on a tiny trained classifier."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fivenines.attacks.constraints import Edited, KeepPart, MaxWordsChanged
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradient_swaps import GradientSwaps
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.words import words_changed, words_of
from fivenines.errors import ConfigError
from fivenines.models.classifier import Classifier
from fivenines.records import Attempt, Outcome, Snippet
from small_classifier import HARMS, task

STARTS = task(36, seed=5)[0][::3]  # every third holds a harm


def run(attack: GradientSwaps, hurt: Classifier, limit: float = 0.5, queries: int = 200) -> list[Attempt]:
    return list(attack.run(Goal(hurt, limit), STARTS, budget=Budget(queries), seed=0))


def test_it_fools_a_trained_classifier_in_a_few_queries(hurt: Classifier) -> None:
    assert hurt.scores(STARTS).min() > 0.5
    found = run(GradientSwaps(Gradients(hurt)), hurt)
    assert all(one.fooled for one in found)
    for one in found:
        assert one.best is not None
        assert hurt.scores([one.best])[0] < 0.5
        assert one.queries <= 140  # four steps of a gradient and 32 draws


def test_it_swaps_words_of_the_vocabulary_and_nothing_else(hurt: Classifier) -> None:
    gradient = Gradients(hurt)
    vocabulary = set(gradient.words.words)
    for one in run(GradientSwaps(gradient, parts=("completion",)), hurt, limit=0.0, queries=120):
        assert one.best is not None
        assert one.best.prompt == one.start.prompt
        old, new = (
            [text[span.start : span.end] for span in words_of(text)]
            for text in (one.start.completion, one.best.completion)
        )
        assert len(old) == len(new)
        swapped = {after for before, after in zip(old, new, strict=True) if before != after}
        assert {word.lower() for word in swapped} <= vocabulary


def test_words_to_keep_stay_and_constraints_cost_no_query(hurt: Classifier) -> None:
    keep = GradientSwaps(Gradients(hurt), keep=frozenset(HARMS), constraints=(MaxWordsChanged(0.2),))
    for one in run(keep, hurt, limit=0.0):
        assert one.best is not None
        for harm in HARMS:
            assert one.best.completion.split().count(harm) >= one.start.completion.split().count(harm)
        assert words_changed(one.start, one.best) <= 0.2 * len(words_of(one.start.text))
    held = GradientSwaps(
        Gradients(hurt), parts=("completion",), constraints=(KeepPart("completion"),), patience=2
    )
    for one in run(held, hurt):
        assert (one.outcome, one.queries) == (Outcome.EXHAUSTED, 1)  # the gradient, which scores the text too


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_it_tries_so_often_without_gain(hurt: Classifier, patience: int) -> None:
    called = []

    def none(edited: Sequence[Edited]) -> list[bool]:
        called.append(len(edited))
        return [False] * len(edited)

    attack = GradientSwaps(Gradients(hurt), draws=5, patience=patience, constraints=(none,))
    (found,) = attack.run(Goal(hurt, 0.5), STARTS[:1], budget=Budget(50), seed=0)
    assert found.outcome == Outcome.EXHAUSTED
    assert called == [5] * patience


def test_nothing_to_swap_ends_it(hurt: Classifier) -> None:
    starts = [Snippet("", "!?"), Snippet("bleeds", "🙂")]
    attack = GradientSwaps(Gradients(hurt), parts=("completion",))
    found = list(attack.run(Goal(hurt, 0.0), starts, budget=Budget(10), seed=0))
    assert [one.outcome for one in found] == [Outcome.EXHAUSTED] * 2
    assert all(one.best == one.start for one in found)


def test_a_text_without_a_gradient_ends_it(hurt: Classifier) -> None:
    def blind(snippets: Sequence[Snippet], /) -> list[None]:
        return [None for _ in snippets]

    for one in run(GradientSwaps(blind), hurt):
        assert (one.outcome, one.queries) == (Outcome.EXHAUSTED, 2)


@pytest.mark.parametrize("name", ["top", "draws", "patience"])
def test_settings_are_checked(hurt: Classifier, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        GradientSwaps(Gradients(hurt), **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="words to keep must be single words"):
        GradientSwaps(Gradients(hurt), keep=frozenset(["New York"]))
