"""Wrongly drawn samples: right again where the weights are known, honest about what could not be drawn."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import Estimate, failure_rate_exact, failure_rate_weighted
from fivenines.stats import betting as betting_module
from fivenines.stats.reweighting import Overlap, failure_rate_poststratified, failure_rate_reweighted
from fivenines.stats.stratified import failure_rate_stratified

# Ten strata of the target; high scores (the last ones) were drawn 1,000 times as often as low ones.
TARGET = np.geomspace(0.5, 1e-3, 10) / np.geomspace(0.5, 1e-3, 10).sum()
DRAWN = TARGET * np.geomspace(1, 1000, 10)
RATES = np.geomspace(0.02, 20, 10)  # failures of each stratum, times the overall rate


def enough(covered: int, rounds: int, level: float = 0.95) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


def sample(rng: np.random.Generator, n: int, rate: float) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Failures and strata of n labelled items, drawn as they should not have been."""
    strata = rng.choice(10, n, p=DRAWN / DRAWN.sum())
    return rng.random(n) < rate * RATES[strata], strata


def truth(rate: float) -> float:
    return float((TARGET * rate * RATES).sum())


# --- reweighted


def slow_high(f: NDArray[Any], weights: NDArray[Any], bound: float) -> float:
    """The mixture of bets on theta w - w f, item by item, whose worst loss is bound (1 - theta)."""

    def wealth(theta: float) -> float:
        total = 0.0
        for share, mass in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            total += mass * math.prod(
                1 + share * w * (theta - y) / (bound * (1 - theta)) for y, w in zip(f, weights, strict=True)
            )
        return total - 40.0

    return float(optimize.brentq(wealth, (weights * f).sum() / weights.sum(), 0.9, xtol=1e-15))


def test_reweighting_agrees_with_a_slow_implementation() -> None:
    f, strata = sample(np.random.default_rng(1), 150, 0.01)
    overlap = Overlap.of_strata(DRAWN, TARGET)
    found = failure_rate_reweighted(f, DRAWN[strata], TARGET[strata], overlap)
    weights = np.array([TARGET[s] / DRAWN[s] for s in strata])
    assert found.point == pytest.approx(float((weights * f).sum() / weights.sum()), rel=1e-9)
    assert found.high == pytest.approx(slow_high(f, weights, 1.0), rel=2e-9)


@given(st.floats(1e-100, 1e100), st.floats(1e-100, 1e100), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_constants_do_not_matter(a: float, b: float, seed: int) -> None:
    f, strata = sample(np.random.default_rng(seed), 60, 0.02)
    one = failure_rate_reweighted(f, DRAWN[strata], TARGET[strata], Overlap.of_strata(DRAWN, TARGET))
    given_, meant = DRAWN * a, TARGET * b
    other = failure_rate_reweighted(f, given_[strata], meant[strata], Overlap.of_strata(given_, meant))
    assert (other.point, other.low, other.high) == pytest.approx((one.point, one.low, one.high), rel=1e-6)


def test_it_is_the_weighted_rate_and_equal_weights_are_the_plain_one() -> None:
    f, strata = sample(np.random.default_rng(2), 800, 0.01)
    one = failure_rate_reweighted(f, DRAWN[strata], TARGET[strata], Overlap(1.0, 0.0))
    other = failure_rate_weighted(f, (TARGET / DRAWN)[strata], 1.0)
    assert (one.point, one.low, one.high) == pytest.approx((other.point, other.low, other.high), rel=1e-9)
    even = failure_rate_reweighted(f, np.ones(800), np.full(800, 3.0), Overlap(3.0, 0.0))
    assert even.point == pytest.approx(f.mean())
    assert (
        failure_rate_exact(int(f.sum()), 800).high
        < even.high
        < 2 * failure_rate_exact(int(f.sum()), 800).high
    )


def test_the_plain_rate_of_such_a_sample_is_far_off_and_the_reweighted_one_is_not() -> None:
    f, strata = sample(np.random.default_rng(3), 200_000, 0.01)
    found = failure_rate_reweighted(f, DRAWN[strata], TARGET[strata], Overlap.of_strata(DRAWN, TARGET))
    assert f.mean() > 10 * truth(0.01)
    assert found.point == pytest.approx(truth(0.01), rel=0.2)
    assert found.contains(truth(0.01))


@pytest.mark.parametrize(("n", "rate"), [(2000, 1e-2), (5000, 1e-3), (5000, 1e-4), (200, 1e-5)])
def test_reweighted_intervals_cover(n: int, rate: float) -> None:
    rng, rounds, overlap = np.random.default_rng(4), 60, Overlap.of_strata(DRAWN, TARGET)
    held = 0
    for _ in range(rounds):
        f, strata = sample(rng, n, rate)
        held += failure_rate_reweighted(f, DRAWN[strata], TARGET[strata], overlap).contains(truth(rate))
    assert enough(held, rounds)


def test_accepted_texts_alone_say_nothing_of_the_rejected() -> None:
    """The sample holds accepted texts only, and 3% of the target is rejected: all or none of that may fail."""
    f = np.zeros(5000)
    f[0] = 1
    inside = failure_rate_reweighted(f, np.ones(5000), np.ones(5000), Overlap(1.0, 0.0))
    found = failure_rate_reweighted(f, np.ones(5000), np.ones(5000), Overlap(1.0, 0.03))
    assert math.isnan(found.point)
    assert found.low == pytest.approx(inside.low * 0.97)
    assert found.high == pytest.approx(inside.high * 0.97 + 0.03)
    assert any(each.startswith("3% of the target could not be drawn") for each in found.assumptions)
    assert found.line.startswith("failure rate unknown")


@pytest.mark.parametrize("hidden", [0.0, 1.0])  # of the stratum that could not be drawn: none fails, or all
def test_a_stratum_that_could_not_be_drawn_is_covered_at_either_extreme(hidden: float) -> None:
    rng, rounds, held = np.random.default_rng(5), 40, 0
    given_ = DRAWN.copy()
    given_[4] = 0.0
    rates = 0.01 * RATES
    rates[4] = hidden
    goal = float((TARGET * rates).sum())
    overlap = Overlap.of_strata(given_, TARGET)
    assert overlap.unreachable == pytest.approx(TARGET[4])
    for _ in range(rounds):
        strata = rng.choice(10, 1000, p=given_ / given_.sum())
        f = rng.random(1000) < rates[strata]
        held += failure_rate_reweighted(f, given_[strata], TARGET[strata], overlap).contains(goal)
    assert enough(held, rounds)


def test_prompts_drawn_over_books_where_windows_were_meant() -> None:
    """Books of 10 and of 1,000 windows, drawn alike: a window of the long book was 100 times as rare as it should."""
    windows = np.array([10.0] * 90 + [1000.0] * 10)
    rng = np.random.default_rng(6)
    book = rng.integers(0, 100, 20_000)
    f = rng.random(20_000) < np.where(windows[book] > 10, 0.002, 0.1)
    found = failure_rate_reweighted(f, 1 / windows[book], np.ones(20_000), Overlap(1000.0, 0.0))
    goal = (900 * 0.1 + 10_000 * 0.002) / 10_900
    assert found.contains(goal)
    assert found.point == pytest.approx(goal, rel=0.2)
    assert f.mean() > 5 * goal


# --- the overlap


def test_overlap_of_named_and_of_listed_strata() -> None:
    listed = Overlap.of_strata([2.0, 1.0, 0.0, 3.0], [1.0, 5.0, 2.0, 0.0])
    named = Overlap.of_strata(
        {"a": 2.0, "b": 1.0, "c": 0.0, "d": 3.0}, {"d": 0.0, "c": 2.0, "b": 5.0, "a": 1.0}
    )
    assert listed == named == Overlap(5.0, 0.25)


@pytest.mark.parametrize(
    ("drawn", "target", "message"),
    [
        ([1.0], [-1.0], r"target must not be negative, got -1\.0"),
        ([math.nan], [1.0], "drawn must be finite, got nan"),
        ([1.0, 2.0], [1.0], "target must have one value for each of the 2 items, got 1"),
        ([0.0, 1.0], [1.0, 0.0], "strata must have one that could be drawn and was meant, got none"),
        ([], [], "strata must have one that could be drawn and was meant, got none"),
        ({"a": 1.0}, {"b": 1.0}, r"must name the same strata, got only one has \['a', 'b'\]"),
        ({"a": 1.0}, [1.0], "must both be lists, or both be by name"),
        ([1e-320], [1.0], "weight_bound must be finite and positive, got inf"),
    ],
)
def test_broken_tables_are_refused(drawn: Any, target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Overlap.of_strata(drawn, target)


@pytest.mark.parametrize(
    ("bound", "unreachable", "message"),
    [
        (0.0, 0.0, r"weight_bound must be finite and positive, got 0\.0"),
        (math.inf, 0.0, "weight_bound must be finite and positive, got inf"),
        (math.nan, 0.0, "weight_bound must be finite and positive, got nan"),
        (1.0, None, "unreachable must be known: the target's share that could not be drawn, got None"),
        (1.0, math.nan, "unreachable must be known"),
        (1.0, -0.1, r"unreachable must lie in \[0, 1\)"),
        (1.0, 1.0, r"unreachable must lie in \[0, 1\): at 1 the sample says nothing"),
    ],
)
def test_an_unknown_overlap_is_refused(bound: Any, unreachable: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Overlap(bound, unreachable)


# --- post-stratification


def test_the_example_of_stat_506() -> None:
    """Penn State, STAT 506, lesson 6.3: means 180 and 120 of 20 and 80 people, half of each wanted: 150, not 132.

    In units of 200, so that the means are rates: 18 of 20 and 48 of 80.
    """
    found = failure_rate_poststratified([18, 48], [20, 80], [0.5, 0.5])
    assert 200 * found.point == pytest.approx(150)
    assert found.low < 0.66 < 0.75 < found.high  # the unweighted 132 lies within, so few are they


def slow_stratified_high(k: list[int], n: list[int], shares: list[float]) -> float:
    total = sum(n)
    weights = [share * total / count for share, count in zip(shares, n, strict=True)]
    bound = max(weights)

    def wealth(theta: float) -> float:
        found = 0.0
        for share, mass in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            log = (total - sum(k)) * math.log1p(share * theta / (bound - theta))
            for failures, weight in zip(k, weights, strict=True):
                if failures:
                    log += failures * math.log(max(1 + share * (theta - weight) / (bound - theta), 1e-300))
            found += mass * math.exp(log)
        return found - 40.0

    point = sum(s * a / b for s, a, b in zip(shares, k, n, strict=True))
    return float(optimize.brentq(wealth, point, 1.0 - 1e-12, xtol=1e-15))


@pytest.mark.parametrize("k", [[0, 0, 0], [1, 0, 3], [0, 2, 1]])
def test_poststratification_agrees_with_a_slow_implementation(k: list[int]) -> None:
    n, shares = [40, 200, 90], [0.3, 0.6, 0.1]
    found = failure_rate_poststratified(k, n, np.array(shares) * 7)
    assert found.high == pytest.approx(slow_stratified_high(k, n, shares), rel=1e-8)
    assert found.point == pytest.approx(
        sum(s * a / b for s, a, b in zip(shares, k, n, strict=True)), rel=1e-9
    )


@pytest.mark.parametrize(
    ("n", "rates"), [(500, (0.001, 0.01, 0.2)), (3000, (1e-5, 1e-4, 1e-2)), (60, (0.0, 0.0, 0.05))]
)
def test_poststratified_intervals_cover_although_the_counts_are_random(
    n: int, rates: tuple[float, ...]
) -> None:
    """Three strata of 90%, 9% and 1% that were drawn alike."""
    rng, rounds, held = np.random.default_rng(7), 60, 0
    goal = float(np.dot((0.9, 0.09, 0.01), rates))
    for _ in range(rounds):
        counts = rng.multinomial(n, [1 / 3] * 3)
        held += failure_rate_poststratified(rng.binomial(counts, rates), counts, [0.9, 0.09, 0.01]).contains(
            goal
        )
    assert enough(held, rounds)


def test_an_empty_stratum_with_mass_is_refused_or_may_fail_in_all_of_it() -> None:
    with pytest.raises(
        DataError, match=r"stratum 1 holds 0\.2 of the target and needs labels, got none. Label some"
    ):
        failure_rate_poststratified([1, 0], [100, 0], [0.8, 0.2])
    found = failure_rate_poststratified([1, 0], [100, 0], [0.8, 0.2], allow_empty=True)
    alone = failure_rate_stratified([1], [100], [1.0])
    assert (found.low, found.high) == pytest.approx((0.8 * alone.low, 0.8 * alone.high + 0.2))
    assert math.isnan(found.point)
    assert failure_rate_poststratified([1, 0], [100, 0], [1.0, 0.0]).high == pytest.approx(alone.high)


def test_labels_of_a_stratum_that_was_not_meant_change_nothing() -> None:
    one = failure_rate_poststratified([1, 2], [50, 90], [0.4, 0.6])
    other = failure_rate_poststratified([1, 2, 30], [50, 90, 40], [0.4, 0.6, 0.0])
    assert (one.low, one.point, one.high) == (other.low, other.point, other.high)


@pytest.mark.parametrize(
    ("failures", "labelled", "target", "message"),
    [
        ([2], [1], [1.0], "failures must not exceed the 1 labels of stratum 0, got 2"),
        ([0, 1], [5, 0], [1.0, 0.0], "failures must not exceed the 0 labels of stratum 1, got 1"),
        ([-1], [1], [1.0], r"failures must not be negative, got -1\.0"),
        ([0.5], [1], [1.0], "failures must be whole numbers"),
        ([0], [math.nan], [1.0], "labelled must be finite, got nan"),
        ([0, 0], [1, 1], [1.0, -1.0], r"target must not be negative, got -1\.0"),
        ([0, 0], [1, 1], [0.0, 0.0], "target must be positive for some stratum, got 0 for all"),
        ([0], [1, 1], [0.5, 0.5], "failures must have one value for each of the 2 items, got 1"),
    ],
)
def test_broken_counts_are_refused(failures: Any, labelled: Any, target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_poststratified(failures, labelled, target)


# --- edges


def test_no_labels() -> None:
    none = failure_rate_reweighted([], [], [], Overlap(1.0, 0.0))
    assert (none.low, none.high, none.n) == (0.0, 1.0, 0)
    assert math.isnan(none.point)
    with pytest.raises(
        NotEnoughDataError, match="strata must have a label where the target has mass, got none"
    ):
        failure_rate_poststratified([0, 1], [0, 9], [1.0, 0.0], allow_empty=True)
    with pytest.raises(NotEnoughDataError, match="target must be positive for some of the labelled items"):
        failure_rate_reweighted([1, 0], [1, 1], [0, 0], Overlap(1.0, 0.0))


@pytest.mark.parametrize("call", ["reweighted", "poststratified"])
def test_one_item_and_all_failures(call: str) -> None:
    def found(failures: int, n: int) -> Estimate:
        if call == "poststratified":
            return failure_rate_poststratified([failures], [n], [1.0])
        return failure_rate_reweighted(
            [i < failures for i in range(n)], [1.0] * n, [1.0] * n, Overlap(1.0, 0.0)
        )

    assert found(0, 1).low == 0.0
    assert 0.5 < found(0, 1).high < 1.0
    assert found(50, 50).high == 1.0
    assert 0.5 < found(50, 50).low < 1.0


def test_a_million_items_in_two_seconds() -> None:
    rng = np.random.default_rng(8)
    drawn = np.exp(rng.normal(0, 1.5, 1_000_000)).clip(0.02, 50)
    failed = rng.random(1_000_000) < 1e-3
    start = time.process_time()
    failure_rate_reweighted(failed, drawn, np.ones(1_000_000), Overlap(50.0, 0.01))
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("failed", "drawn", "target", "message"),
    [
        ([1], [0.0], [1.0], r"drawn must be positive for an item that was drawn, got 0\.0"),
        ([1], [-1.0], [1.0], r"drawn must not be negative, got -1\.0"),
        ([1], [1.0], [math.inf], "target must be finite, got inf"),
        ([1], [1.0], [3.0], r"target / drawn must not exceed weight_bound = 2, got 3\.0"),
        ([1], [1e-320], [1.0], "target / drawn must not exceed weight_bound = 2, got inf"),
        ([2], [1.0], [1.0], "failed must be 0 or 1, or booleans, got 2"),
        ([1, 0], [1.0], [1.0], "failed must have one value for each of the 1 items, got 2"),
    ],
)
def test_broken_items_are_refused(failed: Any, drawn: Any, target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_reweighted(failed, drawn, target, Overlap(2.0, 0.0))


def test_a_level_of_95_is_refused() -> None:
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        failure_rate_reweighted([1], [1.0], [1.0], Overlap(1.0, 0.0), 95)
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        failure_rate_poststratified([1], [1], [1.0], 95)
