"""Answers as targets, and how much each counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ConfigError
from fivenines.models.objective import Lesson, Objective, lesson_of
from fivenines.records import Answer, Judgment, Severity, Snippet

SNIPPETS = [Snippet("p", f"c{i}") for i in range(4)]
ANSWERS = [Answer.FAILURE, Answer.OK, Answer.UNSURE, Answer.FAILURE]
COUNTS = [(2, 0, 0), (0, 3, 0), (1, 1, 2), (3, 1, 0)]
JUDGMENTS = [
    Judgment(s.id, answer, *counts) for s, answer, counts in zip(SNIPPETS, ANSWERS, COUNTS, strict=True)
]


@pytest.mark.parametrize(
    ("objective", "index", "targets"),
    [
        (Objective(), [0, 1, 2, 3], [1, 0, 0.5, 1]),
        (Objective(unsure=0.8), [0, 1, 2, 3], [1, 0, 0.8, 1]),
        (Objective(unsure=None), [0, 1, 3], [1, 0, 1]),
        (Objective(targets="shares"), [0, 1, 2, 3], [1, 0, 0.5, 0.75]),
        (Objective(targets="shares", unsure=1.0), [0, 1, 2, 3], [1, 0, 0.75, 0.75]),
        (Objective(targets="shares", unsure=None), [0, 1, 2, 3], [1, 0, 0.5, 0.75]),
    ],
)
def test_targets(objective: Objective, index: list[int], targets: list[float]) -> None:
    lesson = lesson_of(SNIPPETS, JUDGMENTS, objective, weights=[1, 2, 3, 4])
    assert lesson.index.tolist() == index
    assert lesson.targets.tolist() == targets
    assert lesson.weights.tolist() == [i + 1 for i in index]


def test_a_wide_definition_teaches_doubt_as_failure_and_measures_strictly() -> None:
    snippets = [Snippet("p", f"c{i}") for i in range(6)]
    answers = [Answer.FAILURE, Answer.OK, Answer.UNSURE, Answer.OK, Answer.FAILURE, Answer.OK]
    severities = [Severity.CLEAR, Severity.NONE, None, Severity.BORDERLINE, Severity.BORDERLINE, None]
    counts = [(2, 0, 0), (0, 2, 0), (0, 1, 1), (0, 2, 0), (2, 0, 0), (1, 2, 1)]
    rows = zip(snippets, answers, counts, severities, strict=True)
    judgments = [Judgment(s.id, answer, *n, severity=severity) for s, answer, n, severity in rows]
    for unsure in (0.5, None):
        objective = Objective(wide=True, unsure=unsure)
        taught = lesson_of(snippets, judgments, objective, training=True)
        assert taught.index.tolist() == [0, 1, 2, 3, 4, 5]
        assert taught.targets.tolist() == [1, 0, 1, 1, 1, 0]
        strict = lesson_of(snippets, judgments, objective)
        assert strict.targets.tolist() == ([1, 0, 0.5, 0, 1, 0] if unsure is not None else [1, 0, 0, 1, 0])
        shares = lesson_of(snippets, judgments, replace(objective, targets="shares"), training=True)
        assert shares.targets.tolist() == [1, 0, 1, 1, 1, 0.5]
    narrow = lesson_of(snippets, judgments, Objective(), training=True)
    assert narrow.targets.tolist() == [1, 0, 0.5, 0, 1, 0]


def test_a_lesson_keeps_its_texts() -> None:
    lesson = Lesson(np.arange(3), np.array([1.0, 0.0, 0.0]), np.ones(3), ("a text",))
    assert lesson.only(np.array([True, False, True])).texts == ("a text",)
    assert lesson.oversampled(0.5, np.random.default_rng(0)).texts == ("a text",)


@given(st.integers(1, 20), st.integers(1, 60), st.floats(0.05, 0.9), st.integers(0, 99))
@settings(deadline=None)
def test_oversampling_reaches_the_share_and_loses_nothing(
    failures: int, oks: int, share: float, seed: int
) -> None:
    n = failures + oks
    lesson = Lesson(np.arange(n), np.repeat([1.0, 0.0], [failures, oks]), np.ones(n))
    more = lesson.oversampled(share, np.random.default_rng(seed))
    counts = np.bincount(more.index, minlength=n)
    assert np.all(counts[failures:] == 1)
    assert counts[:failures].min() >= 1
    assert counts[:failures].max() - counts[:failures].min() <= 1
    wanted = max(failures, round(share / (1 - share) * oks))
    assert counts[:failures].sum() == wanted


def test_balanced_weights_give_both_answers_the_same_sum() -> None:
    lesson = Lesson(np.arange(10), np.repeat([1.0, 0.0], [2, 8]), np.arange(1.0, 11.0))
    pair = lesson.class_weights("balanced")
    assert pair is not None
    failing = lesson.targets > 0.5
    assert pair[1] * lesson.weights[failing].sum() == pytest.approx(pair[0] * lesson.weights[~failing].sum())
    assert lesson.class_weights(None) is None
    assert lesson.class_weights((1.0, 3.0)) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": "votes"}, "targets must be answer or shares, got votes"),
        ({"unsure": 2}, r"unsure must be None or lie in \[0, 1\], got 2"),
        ({"oversample": 1.0}, r"oversample must be None or lie in \(0, 1\), got 1.0"),
        ({"label_smoothing": 1}, r"label_smoothing must lie in \[0, 1\), got 1"),
        ({"focal_gamma": -1}, "focal_gamma must not be negative, got -1"),
        ({"class_weights": (1.0, -1.0)}, "class_weights must be None, balanced or two positive numbers"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(**change)
    assert Objective(class_weights=[1.0, 2.0]).class_weights == (1.0, 2.0)  # type: ignore[arg-type]
