"""Differences of two shares: exact by enumeration, against slow computations, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from fivenines.errors import ConfigError, DataError
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.differences import share_difference_exact, share_difference_p_value


def slow_score(k: int, m: int, other_k: int, other_m: int, margin: float) -> float:
    """The likeliest shares under the margin by a search instead of a cubic."""

    def unlikely(q: float) -> float:
        p = q + margin
        return -float(
            special.xlogy(k, p)
            + special.xlog1py(m - k, -p)
            + special.xlogy(other_k, q)
            + special.xlog1py(other_m - other_k, -q)
        )

    ends = (max(0.0, -margin), min(1.0, 1.0 - margin))
    q = float(optimize.minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x)
    p = q + margin
    return (k / m - other_k / other_m - margin) / math.sqrt(p * (1 - p) / m + q * (1 - q) / other_m)


def slow_p_value(k: int, m: int, other_k: int, other_m: int, margin: float) -> float:
    """Every table and many shares, one by one."""
    seen = slow_score(k, m, other_k, other_m, margin)
    tables = [
        (i, j)
        for i in range(m + 1)
        for j in range(other_m + 1)
        if slow_score(i, m, j, other_m, margin) >= seen - 1e-6
    ]
    i, j = np.array(tables).T
    worst = 0.0
    for q in np.linspace(max(0.0, -margin), min(1.0, 1.0 - margin), 1500):
        chance = stats.binom.pmf(i, m, min(q + margin, 1.0)) * stats.binom.pmf(j, other_m, q)
        worst = max(worst, float(chance.sum()))
    return worst


@pytest.mark.parametrize(
    ("table", "margin"),
    [
        ((4, 6, 1, 5), 0.1),
        ((4, 6, 1, 5), -0.3),
        ((2, 5, 2, 7), 0.05),
        ((0, 4, 3, 4), -0.8),
        ((5, 5, 0, 6), 0.6),
    ],
)
def test_p_value_agrees_with_a_slow_implementation(table: tuple[int, int, int, int], margin: float) -> None:
    assert share_difference_p_value(*table, margin) == pytest.approx(slow_p_value(*table, margin), rel=2e-3)


@pytest.mark.parametrize("table", [(7, 12, 8, 15), (10, 50, 2, 40), (3, 9, 0, 30), (4, 8, 3, 9)])
def test_without_a_margin_it_is_the_test_of_barnard(table: tuple[int, int, int, int]) -> None:
    k, m, other_k, other_m = table
    rows = np.array([[k, other_k], [m - k, other_m - other_k]])
    barnard = stats.barnard_exact(rows, alternative="greater", pooled=True)
    assert share_difference_p_value(*table) == pytest.approx(barnard.pvalue, rel=1e-3)
    assert share_difference_p_value(*table) <= stats.fisher_exact(rows, alternative="greater").pvalue * 1.001


def test_interval_holds_at_every_pair_of_shares() -> None:
    """All tables of 7 and 10 items, so that the coverage is a sum and not a simulation."""
    m, other_m, level = 7, 10, 0.9
    low, high = np.empty((2, m + 1, other_m + 1))
    for k in range(m + 1):
        for other_k in range(other_m + 1):
            found = share_difference_exact(k, m, other_k, other_m, level)
            low[k, other_k], high[k, other_k] = found.low, found.high
    covered = []
    for p in np.linspace(0.0, 1.0, 41):
        for q in np.linspace(0.0, 1.0, 41):
            chance = np.outer(
                stats.binom.pmf(np.arange(m + 1), m, p), stats.binom.pmf(np.arange(other_m + 1), other_m, q)
            )
            inside = (low <= p - q + 1e-9) & (high >= p - q - 1e-9)
            covered.append((chance * inside).sum())
    assert min(covered) >= level - 1e-6
    assert np.mean(covered) < 0.97  # not by being too wide
    assert (np.diff(low, axis=0) >= -1e-5).all()  # more successes never lower the bound
    assert (np.diff(low, axis=1) <= 1e-5).all()


@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20), st.integers(1, 20))
@settings(max_examples=15)
def test_sides_swap(k: int, m: int, other_k: int, other_m: int) -> None:
    k, other_k = min(k, m), min(other_k, other_m)
    one = share_difference_exact(k, m, other_k, other_m)
    other = share_difference_exact(other_k, other_m, k, m)
    assert (one.low, one.high) == (-other.high, -other.low)
    assert -1.0 <= one.low <= one.point <= one.high <= 1.0


def test_narrower_than_two_intervals_put_together() -> None:
    found = share_difference_exact(10, 50, 1, 50)
    (low, high), (other_low, other_high) = clopper_pearson(10, 50, 0.0125), clopper_pearson(1, 50, 0.0125)
    assert low - other_high < found.low < found.high < high - other_low
    assert found.method == "exact without conditioning"


def test_many_items_take_two_intervals() -> None:
    found = share_difference_exact(200, 1000, 10, 300)
    (low, high), (other_low, other_high) = (
        clopper_pearson(200, 1000, 0.0125),
        clopper_pearson(10, 300, 0.0125),
    )
    assert (found.low, found.high) == pytest.approx((low - other_high, high - other_low))
    assert found.method == "exact binomial on each side"


def test_nothing_known_of_a_side() -> None:
    both = share_difference_exact(0, 0, 0, 0)
    assert (both.low, both.high, both.n) == (-1.0, 1.0, 0)
    assert math.isnan(both.point)
    one = share_difference_exact(0, 0, 0, 1000)
    assert one.low >= -0.006
    assert one.high == 1.0


def test_certain_shares_are_no_certain_difference() -> None:
    assert share_difference_exact(50, 50, 0, 50).low == pytest.approx(0.927, abs=1e-3)
    none = share_difference_exact(0, 50, 0, 50)
    assert none.high == -none.low == pytest.approx(0.0735, abs=1e-4)


def test_refuses() -> None:
    with pytest.raises(DataError, match="successes must not exceed the 3 items, got 4"):
        share_difference_exact(4, 3, 0, 1)
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        share_difference_exact(1, 3, 0, 1, level=95)
    with pytest.raises(DataError, match="n must be from 1 to 400 on each side, got 401 and 1"):
        share_difference_p_value(1, 401, 0, 1)
    with pytest.raises(ConfigError, match="margin must lie strictly between -1 and 1, got 1"):
        share_difference_p_value(1, 3, 0, 1, 1.0)
