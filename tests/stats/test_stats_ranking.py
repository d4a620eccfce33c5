"""AUROC and average precision: scikit-learn's values, and intervals that hold."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats
from sklearn.metrics import average_precision_score, roc_auc_score

from fivenines.errors import DataError, NotEnoughDataError
from fivenines.stats import auroc, average_precision
from fivenines.stats import ranking as ranking_module


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_scikit_learn_agrees_with_ties_and_weights(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    answers = np.append([True, False], rng.random(n) < 0.3)
    scores, weights = rng.integers(0, 12, n + 2) / 12, rng.uniform(0.1, 5, n + 2)
    for ours, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        found = ours(answers, scores, weights)
        assert found.point == pytest.approx(theirs(answers, scores, sample_weight=weights), abs=1e-12)
        assert 0.0 <= found.low <= found.point <= found.high <= 1.0
        assert found.high > found.low


def test_agrees_with_counting_pairs() -> None:
    rng = np.random.default_rng(1)
    bad, good = rng.integers(3, 9, 20), rng.integers(0, 7, 30)
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    found = auroc([1] * 20 + [0] * 30, np.concatenate([bad, good]))
    assert found.point == pytest.approx(np.mean(pairs))


def test_perfect_separation_is_not_certain() -> None:
    found = auroc([1] * 20 + [0] * 500, [0.9] * 20 + [0.1] * 500)
    assert found.point == found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 20), abs=0.02)
    assert average_precision([1] * 5 + [0] * 50, [0.9] * 5 + [0.1] * 50).low < 0.6
    assert auroc([0] * 5 + [1] * 50, [0.9] * 5 + [0.1] * 50).high > 0.4


@pytest.mark.parametrize(("failures", "rest", "shift"), [(15, 150, 1.0), (60, 300, 2.0), (40, 40, 0.3)])
def test_auroc_covers(failures: int, rest: int, shift: float) -> None:
    rng, rounds, covered = np.random.default_rng(2), 60, 0
    truth = float(scipy_stats.norm.cdf(shift / math.sqrt(2)))
    answers = np.arange(failures + rest) < failures
    for seed in range(rounds):
        covered += auroc(answers, rng.normal(size=answers.size) + shift * answers, seed=seed).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_average_precision_covers_about_its_large_sample_value() -> None:
    rng, rounds, covered = np.random.default_rng(3), 40, 0
    many = np.arange(400_000) < 60_000
    truth = average_precision_score(many, rng.normal(size=many.size) + 1.5 * many)
    answers = np.arange(400) < 60
    for seed in range(rounds):
        scores = rng.normal(size=400) + 1.5 * answers
        covered += average_precision(answers, scores, seed=seed).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_average_precision_covers_where_the_number_of_failures_is_random() -> None:
    rng, rounds, covered = np.random.default_rng(13), 100, 0
    many = rng.random(400_000) < 0.5
    truth = average_precision_score(many, rng.normal(size=many.size) + 0.5 * many)
    for seed in range(rounds):
        failed = rng.random(400) < 0.5
        found = average_precision(failed, rng.normal(size=400) + 0.5 * failed, seed=seed)
        covered += found.contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    equal = average_precision(
        [1] * 5 + [0] * 195, [0.0] * 200
    )  # no ranking at all: the share, which is uncertain
    assert equal.low < equal.point == 0.025 < equal.high


def test_clusters_without_a_failure_are_no_degrees_of_freedom() -> None:
    """Failures in three of 20 clusters: the reach is that of t with two degrees, as two levels tell."""
    rng = np.random.default_rng(14)
    clusters = np.repeat(np.arange(20), 10)
    failed = (clusters < 3) & (rng.random(200) < 0.5)
    scores = rng.normal(size=200) + failed
    wide, narrow = (auroc(failed, scores, clusters=clusters, level=level) for level in (0.95, 0.5))
    reaches = [special.logit(one.high) - special.logit(one.point) for one in (wide, narrow)]
    degrees = scipy_stats.t(2)
    assert reaches[0] / reaches[1] == pytest.approx(degrees.ppf(0.975) / degrees.ppf(0.75), rel=1e-6)


def test_clusters_cover_where_items_of_a_book_are_alike() -> None:
    """Each book shifts all its scores; taking items as independent covers far too seldom."""
    rng, rounds, covered, naive = np.random.default_rng(4), 40, 0, 0
    truth = float(scipy_stats.norm.cdf(1.0 / math.sqrt(2 * (1 + 1))))
    books = np.repeat(np.arange(25), 20)
    for seed in range(rounds):
        lean = rng.normal(size=25)[books]
        answers = rng.random(books.size) < 0.3
        scores = rng.normal(size=books.size) + lean + answers
        covered += auroc(answers, scores, clusters=books, seed=seed).contains(truth)
        naive += auroc(answers, scores, seed=seed).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert naive < covered
    assert "25 clusters" in auroc(answers, scores, clusters=books).assumptions[1]


def test_clusters_may_be_names_and_same_seed_gives_the_same() -> None:
    rng = np.random.default_rng(5)
    answers, scores = rng.random(60) < 0.4, rng.random(60)
    names = np.repeat(["a", "b", "c"], 20)
    assert auroc(answers, scores, clusters=names) == auroc(answers, scores, clusters=names)


@pytest.mark.parametrize(
    ("kind", "message", "arguments"),
    [
        (NotEnoughDataError, "at least one failure of positive weight", ([0, 0], [0.1, 0.2])),
        (NotEnoughDataError, "at least one non-failure", ([1, 1], [0.1, 0.2])),
        (DataError, "scores must be finite", ([1, 0], [0.1, math.nan])),
        (DataError, "answers must have one value for each of the 2 items", ([1], [0.1, 0.2])),
    ],
)
def test_broken_input_is_refused(kind: type[Exception], message: str, arguments: tuple[Any, Any]) -> None:
    for measure in (auroc, average_precision):
        with pytest.raises(kind, match=message):
            measure(*arguments)


def test_broken_clusters_are_refused() -> None:
    for measure in (auroc, average_precision):
        with pytest.raises(NotEnoughDataError, match="clusters must hold a failure in at least two"):
            measure([1, 0], [0.2, 0.1], clusters=["a", "a"])
        with pytest.raises(NotEnoughDataError, match="clusters must hold a failure in at least two"):
            measure([1, 1, 0, 0], [0.9, 0.1, 0.5, 0.4], clusters=[1, 1, 1, 2])
        with pytest.raises(NotEnoughDataError, match="clusters must hold a non-failure in at least two"):
            measure([1, 1, 0, 0], [0.9, 0.1, 0.5, 0.4], clusters=[1, 2, 1, 1])
        with pytest.raises(DataError, match="clusters must all be numbers, or all be names"):
            measure([1, 1, 0, 0], [0.9, 0.1, 0.5, 0.4], clusters=np.array(["a", None, "b", "c"], object))
    with pytest.raises(DataError, match="clusters must have one for each of 2 items"):
        auroc([1, 0], [0.2, 0.1], clusters=["a"])


@pytest.mark.parametrize("measure", [auroc, average_precision])
@pytest.mark.parametrize("clustered", [False, True])
def test_many_items_get_the_same_interval_by_leaving_out_groups(
    measure: Any, clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    books = np.repeat(np.arange(150), 20)
    failed = rng.random(3000) < 0.1
    scores = np.round(rng.normal(size=3000) + 1.5 * failed + rng.normal(size=150)[books], 2)
    weights = rng.uniform(0.2, 3.0, 3000)
    clusters = books if clustered else None
    drawn = measure(failed, scores, weights, clusters=clusters)
    monkeypatch.setattr(ranking_module, "_MANY", 100)
    left_out = measure(failed, scores, weights, clusters=clusters)
    assert left_out.point == drawn.point
    assert (left_out.high - left_out.low) / (drawn.high - drawn.low) == pytest.approx(1.0, abs=0.25)
    assert (drawn.method, left_out.method) == ("bootstrap", "jackknife")
    assert left_out.approximate
    assert drawn.approximate


def test_a_million_items_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    failed = rng.random(1_000_000) < 1e-3
    scores = rng.normal(size=1_000_000) + 2.0 * failed
    begin = time.process_time()
    found = auroc(failed, scores, rng.random(1_000_000))
    assert time.process_time() - begin < 2.0
    assert found.contains(float(scipy_stats.norm.cdf(math.sqrt(2.0))))
