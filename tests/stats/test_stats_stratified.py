"""Stratified rates: strata that were sampled unequally, empty ones, and the price of many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fivenines.errors import ConfigError, DataError
from fivenines.stats import betting as betting_module
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.stratified import failure_rate_stratified

STRATA = st.lists(
    st.tuples(st.integers(1, 300), st.floats(0.0, 1.0), st.floats(0.01, 1.0)), min_size=1, max_size=6
)


def slow_upper(k: list[int], n: list[int], shares: list[float], tail: float) -> float:
    """Label by label in plain Python, the crossing by root finding."""
    total = sum(n)
    weights = [share * total / size for share, size in zip(shares, n, strict=True)]
    worst = max(weights)

    def excess(theta: float) -> float:
        wealth = 0.0
        for bet, mass in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            product = 1.0
            for fails, size, weight in zip(k, n, weights, strict=True):
                for label in range(size):
                    x = weight if label < fails else 0.0
                    product *= 1 + bet * (theta - x) / (worst - theta)
            wealth += mass * product
        return math.log(wealth * tail)

    point = sum(s * f / size for s, f, size in zip(shares, k, n, strict=True))
    return float(optimize.brentq(excess, point, 1.0 - 1e-9, xtol=1e-14, rtol=1e-13))


def test_agrees_with_a_slow_implementation() -> None:
    k, n, shares = [0, 1, 7], [40, 25, 30], [0.9, 0.08, 0.02]
    found = failure_rate_stratified(k, n, shares)
    assert found.point == pytest.approx(0.08 / 25 + 0.02 * 7 / 30, abs=1e-12)
    assert found.high == pytest.approx(slow_upper(k, n, shares, 0.025), rel=1e-7)


def test_in_proportion_it_is_the_exact_binomial_of_all_labels() -> None:
    found = failure_rate_stratified([0, 2, 1], [500, 300, 200], [0.5, 0.3, 0.2])
    assert (found.low, found.high) == pytest.approx(clopper_pearson(3, 1000, 0.025), rel=5e-3)
    assert found.low <= clopper_pearson(3, 1000, 0.025)[0]
    assert found.method == "pooled exact binomial"


@given(STRATA)
@settings(max_examples=60, deadline=None)
def test_the_point_is_inside_and_the_order_of_strata_does_not_matter(
    strata: list[tuple[int, float, float]],
) -> None:
    n = [size for size, _, _ in strata]
    k = [round(size * rate) for size, rate, _ in strata]
    total = sum(mass for _, _, mass in strata)
    shares = [mass / total for _, _, mass in strata]
    found = failure_rate_stratified(k, n, shares)
    again = failure_rate_stratified(k[::-1], n[::-1], shares[::-1])
    assert 0.0 <= found.low <= found.point + 1e-12 <= found.high + 2e-12 <= 1.0 + 2e-12
    assert (found.low, found.high) == pytest.approx((again.low, again.high), rel=1e-6, abs=1e-12)


def test_many_strata_without_a_failure_cost_no_more_than_one() -> None:
    one = failure_rate_stratified([0, 0], [1000, 999], [0.5, 0.5])
    many = failure_rate_stratified([0] * 40, [50] * 39 + [49], [1 / 40] * 40)
    assert many.high < 1.1 * one.high
    added = sum(clopper_pearson(0, 50, 0.025 / 40)[1] / 40 for _ in range(40))
    assert many.high < added / 10  # what intervals added up over 40 strata would give


def test_an_empty_stratum_without_mass_says_nothing() -> None:
    found = failure_rate_stratified([1, 0, 0], [100, 50, 0], [0.3, 0.7, 0.0])
    same = failure_rate_stratified([1, 0], [100, 50], [0.3, 0.7])
    assert (found.low, found.point, found.high) == (same.low, same.point, same.high)


@pytest.mark.parametrize(
    ("k", "n", "shares", "message"),
    [
        ([0, 0], [10, 0], [0.9, 0.1], "stratum 1 holds 0.1 of the mass and needs labels, got none"),
        ([3, 0], [2, 10], [0.5, 0.5], "failures must not exceed the 2 labels of stratum 0, got 3"),
        ([0, 0], [10, 10], [0.5, 0.4], "shares must sum to 1"),
        ([0, 0], [10, 10], [1.5, -0.5], "shares must not be negative"),
        ([0, 0.5], [10, 10], [0.5, 0.5], "failures must be whole numbers"),
        ([0, 0], [10, math.nan], [0.5, 0.5], "n must be finite"),
        ([0], [10, 10], [0.5, 0.5], "failures must have one value for each"),
        ([], [], [], "shares must sum to 1"),
    ],
)
def test_refuses(k: list[float], n: list[float], shares: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_stratified(k, n, shares)


def test_refuses_a_level_of_95() -> None:
    with pytest.raises(ConfigError, match=r"Write 0\.95"):
        failure_rate_stratified([0], [10], [1.0], 95)


def test_coverage_with_few_strata_and_rare_failures() -> None:
    rng = np.random.default_rng(5)
    shares, rates = np.array([0.9, 0.09, 0.01]), np.array([2e-4, 5e-3, 0.2])
    n, truth, rounds, covered = np.array([300, 300, 300]), float(shares @ rates), 150, 0
    for _ in range(rounds):
        covered += failure_rate_stratified(rng.binomial(n, rates), n, shares).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
