"""Betting bounds, weighted rates, and the reuse of unfiltered labels: unbiased, covered, never certain."""

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

from fivenines.errors import ConfigError, DataError
from fivenines.stats import (
    Estimate,
    failure_rate_exact,
    failure_rate_reused,
    failure_rate_weighted,
    mean_bounded,
    ratio_bounded,
)
from fivenines.stats import betting as betting_module
from fivenines.stats.betting import Items, betting_bounds, betting_p_value


def enough(covered: int, rounds: int, level: float) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


# --- an independent slow implementation


def slow_upper(x: NDArray[Any], d: NDArray[Any], bound: float, tail: float) -> float:
    """The mixture's wealth item by item in plain Python, its crossing by root finding ("free")."""

    def excess(theta: float) -> float:
        total = 0.0
        for share, mass in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            wealth = 1.0
            for value, weight in zip(x, d, strict=True):
                wealth *= 1 + share * (theta * weight - value) / bound
            total += mass * wealth
        return math.log(total * tail)

    return float(optimize.brentq(excess, x.sum() / d.sum(), 1.0))


def test_agrees_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(1)
    d = rng.uniform(0.5, 1.0, 60)
    x = 4.0 * (rng.random(60) < 0.1) * rng.random(60)
    _, high = betting_bounds(Items(x, d, 4.0, 1.0), 0.025, top=5.0)
    assert high == pytest.approx(slow_upper(x, d, 4.0, 0.025), rel=1e-7)


# --- properties


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.01, 10)), min_size=1, max_size=40),
)
@settings(max_examples=25, deadline=None)
def test_point_within_and_order_does_not_matter(items: list[tuple[bool, float]]) -> None:
    failed, weights = zip(*items, strict=True)
    one = failure_rate_weighted(failed, weights, 10.0)
    other = failure_rate_weighted(failed[::-1], weights[::-1], 10.0)
    assert 0.0 <= one.low <= one.point <= one.high <= 1.0
    assert one.low == pytest.approx(other.low)
    assert one.high == pytest.approx(other.high)


@given(st.integers(0, 49), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_one_failure_more_never_lowers_a_bound(position: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, failed = rng.uniform(0.1, 5, 50), rng.random(50) < 0.2
    more = failed.copy()
    more[position] = True
    one, other = (failure_rate_weighted(f, weights, 5.0) for f in (failed, more))
    assert one.low <= other.low + 1e-9
    assert one.high <= other.high + 1e-9


def test_width_shrinks_with_n_and_grows_with_the_level() -> None:
    rng = np.random.default_rng(2)
    weights, failed = rng.uniform(0.5, 2, 4000), rng.random(4000) < 0.05
    few = failure_rate_weighted(failed[:400], weights[:400], 2.0)
    many = failure_rate_weighted(failed, weights, 2.0)
    sure = failure_rate_weighted(failed, weights, 2.0, level=0.999)
    assert many.high - many.low < few.high - few.low
    assert sure.low < many.low < many.high < sure.high


def test_zero_failures_cost_little_over_exact() -> None:
    exact = failure_rate_exact(0, 10_000)
    equal = failure_rate_weighted(np.zeros(10_000), np.ones(10_000), 1.0)
    assert equal.low == 0.0
    assert exact.high < equal.high < 1.2 * exact.high
    # a bound of 50 on the weights costs 50 times that: a failure of weight 50 could have been missed
    wild = failure_rate_weighted(np.zeros(10_000), np.ones(10_000), 50.0)
    assert 40 * exact.high < wild.high < 60 * exact.high


def test_sharing_many_distinct_items_widens_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    weights = np.exp(rng.normal(0, 1, 20_000)).clip(0, 30)
    failed = rng.random(20_000) < 0.02
    items = Items(weights * failed, weights, 30.0, 30.0, "nested")
    low, high = betting_bounds(items, 0.025)
    monkeypatch.setattr(betting_module, "_EXACT", 10**9)
    finer = betting_bounds(items, 0.025)
    assert finer[0] * 0.99 < low <= finer[0]
    assert finer[1] <= high < finer[1] * 1.01


def test_a_million_weighted_labels_in_two_seconds() -> None:
    rng = np.random.default_rng(4)
    weights = np.exp(rng.normal(0, 1.5, 1_000_000)).clip(0, 50)
    start = time.process_time()
    failure_rate_weighted(rng.random(1_000_000) < 1e-3, weights, 50.0)
    assert time.process_time() - start < 2.0


# --- coverage


@pytest.mark.parametrize(
    ("n", "rate", "spread", "mean_one"),
    [
        (300, 0.05, 1.0, False),
        (2000, 1e-3, 1.5, False),  # mostly zero or one failure; weights over three orders of magnitude
        (2000, 1e-3, 1.5, True),
        (5000, 1e-5, 1.0, False),  # zero failures nearly always
        (200, 0.5, 2.0, True),
    ],
)
def test_weighted_intervals_cover(n: int, rate: float, spread: float, mean_one: bool) -> None:
    """Items are sampled with the inverse of a clipped lognormal weight; failures prefer heavy items."""
    rng, rounds, covered = np.random.default_rng(7), 60, 0
    pool = np.exp(rng.normal(0, spread, 200_000)).clip(0.02, 20)
    chance = np.minimum(rate * pool / pool.mean(), 1.0)  # failure probability of an item
    truth = float(chance.mean())
    sampling = (1 / pool) / (1 / pool).sum()
    weights = (1 / pool.size) / sampling  # expectation 1 under the sampling
    bound = float(weights.max())
    for _ in range(rounds):
        drawn = rng.choice(pool.size, n, p=sampling)
        failed = rng.random(n) < chance[drawn]
        covered += failure_rate_weighted(failed, weights[drawn], bound, mean_one=mean_one).contains(truth)
    assert enough(covered, rounds, 0.95)


@pytest.mark.parametrize(("n", "alpha", "beta"), [(30, 0.5, 0.5), (100, 5, 1), (10, 1, 20)])
def test_means_of_bounded_values_cover(n: int, alpha: float, beta: float) -> None:
    rng = np.random.default_rng(8)
    truth = 1 + 4 * alpha / (alpha + beta)
    covered = sum(mean_bounded(1 + 4 * rng.beta(alpha, beta, n), (1, 5)).contains(truth) for _ in range(80))
    assert enough(covered, 80, 0.95)


def test_draws_per_output_cover_and_know_infinity() -> None:
    rng, covered, budget, accept = np.random.default_rng(9), 0, 10, 0.3
    truth = 1 / accept  # E[min(N, K)] / P(N <= K) for one acceptance: (1 - q^K) / A over 1 - q^K
    for _ in range(80):
        draws = rng.geometric(accept, 60)
        found = ratio_bounded(np.minimum(draws, budget), draws <= budget, budget)
        covered += found.contains(truth)
    assert enough(covered, 80, 0.95)
    assert ratio_bounded([10, 10], [0, 0], 10).high == math.inf


def test_p_value_of_betting_is_valid() -> None:
    rng, rounds = np.random.default_rng(10), 500
    weights = np.tile([1.0, 4.0], 100)
    wrong = 0
    for _ in range(rounds):
        missed = rng.random(200) < 0.05  # exactly at the null
        wrong += betting_p_value(Items(weights * missed, weights, 4.0, 4.0, "nested"), 0.05) <= 0.1
    assert wrong / rounds <= 0.1 + 3 * math.sqrt(0.09 / rounds)


# --- reuse of unfiltered labels


def prompts(rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Acceptance A(x) from 0.03 to 0.95, and P(failure | accepted, x), higher where acceptance is low."""
    accept = rng.choice([0.03, 0.2, 0.6, 0.95], n, p=[0.05, 0.1, 0.25, 0.6])
    return accept, 0.02 / accept**0.7


def one_sample(rng: np.random.Generator, n: int, budget: int) -> tuple[NDArray[Any], ...]:
    accept, fails = prompts(rng, n)
    failed_accepted = (rng.random(n) < accept) & (rng.random(n) < fails)
    draws = rng.geometric(accept)
    return failed_accepted, np.minimum(draws, budget), draws <= budget


def true_rate(budget: int) -> float:
    accept, share = np.array([0.03, 0.2, 0.6, 0.95]), np.array([0.05, 0.1, 0.25, 0.6])
    back = 1 - (1 - accept) ** budget
    return float((share * back * 0.02 / accept**0.7).sum() / (share * back).sum())


@pytest.mark.parametrize("budget", [1, 5, 50])
def test_reuse_is_unbiased_where_acceptance_varies(budget: int) -> None:
    fa, draws, back = one_sample(np.random.default_rng(11), 2_000_000, budget)
    x = fa * draws
    error = x.std() / math.sqrt(x.size) / back.mean()
    assert x.mean() / back.mean() == pytest.approx(true_rate(budget), abs=4 * error)
    if budget == 50:  # without the weights the answer is far off
        assert abs(fa.mean() - true_rate(budget)) > 20 * error


def test_the_filter_itself_has_that_rate() -> None:
    """The estimand is what the running system does: drawn here draw by draw."""
    rng, budget, n = np.random.default_rng(12), 5, 300_000
    accept, fails = prompts(rng, n)
    returned = (rng.random((n, budget)) < accept[:, None]).any(axis=1)
    failed = returned & (rng.random(n) < fails)
    rate = failed.sum() / returned.sum()
    assert rate == pytest.approx(true_rate(budget), abs=4 * math.sqrt(rate / returned.sum()))


def reused_once(rng: np.random.Generator, n: int, budget: int) -> Estimate:
    failed_accepted, draws, back = one_sample(rng, n, budget)
    return failure_rate_reused(failed_accepted, draws, back, budget)


@pytest.mark.parametrize(("n", "budget"), [(400, 5), (3000, 50), (50, 3)])
def test_reuse_covers(n: int, budget: int) -> None:
    rng, truth, rounds = np.random.default_rng(13), true_rate(budget), 80
    covered = sum(reused_once(rng, n, budget).contains(truth) for _ in range(rounds))
    assert enough(covered, rounds, 0.95)


def test_reuse_without_failures_is_budget_times_as_wide() -> None:
    none = failure_rate_reused(np.zeros(5000), np.full(5000, math.nan), np.ones(5000), 20)
    assert (none.point, none.low) == (0.0, 0.0)
    assert 18 * failure_rate_exact(0, 5000).high < none.high < 25 * failure_rate_exact(0, 5000).high


def test_no_data_gives_the_full_width() -> None:
    for found in (failure_rate_weighted([], [], 1.0), failure_rate_reused([], [], [], 5)):
        assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
        assert math.isnan(found.point)
    assert mean_bounded([], (1, 5)).high == 5


@pytest.mark.parametrize(
    ("failed", "weights", "bound", "message"),
    [
        ([True], [math.nan], 1, "weights must be finite, got nan"),
        ([True], [math.inf], 1, "weights must be finite, got inf"),
        ([True], [-1.0], 1, r"weights must not be negative, got -1\.0"),
        ([True], [2.0], 1, r"weights must not exceed weight_bound = 1, got 2\.0"),
        ([2], [1.0], 1, "failed must be 0 or 1, or booleans, got 2"),
        ([True, False], [1.0], 1, "failed must have one value for each of the 1 items, got 2"),
        ([True], [1.0], math.inf, "weight_bound must be finite and positive, got inf"),
        ([[True]], [1.0], 1, "failed must be a flat list"),
        (["a"], [1.0], 1, "failed must be numbers or booleans"),
    ],
)
def test_broken_weights_are_refused(failed: Any, weights: Any, bound: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_weighted(failed, weights, bound)


def test_broken_reuse_is_refused() -> None:
    with pytest.raises(DataError, match=r"draws must lie between 1 and the budget of 5, got 6\.0"):
        failure_rate_reused([True], [6], [True], 5)
    with pytest.raises(DataError, match=r"failed_accepted must lie in \[0, 1\]"):
        failure_rate_reused([2.0], [1], [True], 5)
    with pytest.raises(ConfigError, match="level must lie strictly between"):
        failure_rate_weighted([True], [1.0], 1.0, level=95)


def test_a_ratio_without_a_numerator_is_bounded_all_the_same() -> None:
    found = ratio_bounded(np.zeros(1000), np.full(1000, 0.5), 1.0)
    assert found.point == 0.0
    assert 0.003 < found.high < 0.02


def test_bounds_that_enclose_nothing() -> None:
    with pytest.raises(ConfigError, match="bounds must be a lower and a higher number"):
        mean_bounded([1.0, 1.0], (1.0, 1.0))
    with pytest.raises(DataError, match="weights must have a finite sum"):
        failure_rate_weighted([0, 1], [1e308, 1e308], 1e308)
    with pytest.raises(DataError, match="weight_bound must be finite and positive"):
        failure_rate_weighted([0, 1], [0.0, 0.0], 1e-320)
