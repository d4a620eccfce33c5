"""Preferences by raters, weights, strata and policies: covered at any size, mirrored, and agreeing with the test."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from fivenines.errors import ConfigError, DataError
from fivenines.stats import Estimate, preference_coupled, preference_exact
from fivenines.stats import betting as betting_module
from fivenines.stats.preferences import (
    preference_clustered,
    preference_coupled_by,
    preference_difference,
    preference_stratified,
    preference_weighted,
    quality_no_worse_p_value,
    rater_effect,
)

HALVES = st.sampled_from([0.0, 0.5, 1.0])
NAN = math.nan


def enough(covered: int, rounds: int, level: float = 0.95) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


# --- independent slow implementations


def slow_high(x: list[float], d: list[float], bound: float, tail: float) -> float:
    """Where the wealth of betting against "E[x] / E[d] is theta" reaches 1 / tail, item by item."""

    def excess(theta: float) -> float:
        total = 0.0
        for share, mass in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            wealth = 1.0
            for value, most in zip(x, d, strict=True):
                wealth *= max(1 + share * (theta * most - value) / (bound * (1 - theta)), 0.0)
            total += mass * wealth
        return math.log(total * tail)

    return float(optimize.brentq(excess, sum(x) / sum(d), 1.0 - 1e-4, xtol=1e-13))


def slow_interval(x: list[float], d: list[float], bound: float, level: float) -> tuple[float, float]:
    lost = [most - value for value, most in zip(x, d, strict=True)]
    tail = (1 - level) / 2
    return 1 - slow_high(lost, d, bound, tail), slow_high(x, d, bound, tail)


def test_clustered_agrees_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(1)
    values, raters = rng.choice([0.0, 0.5, 1.0], 60, p=[0.2, 0.3, 0.5]), rng.integers(0, 9, 60)
    sums: dict[int, float] = {}
    counts: dict[int, float] = {}
    for value, rater in zip(values.tolist(), raters.tolist(), strict=True):
        sums[rater] = sums.get(rater, 0.0) + value
        counts[rater] = counts.get(rater, 0.0) + 1
    names = sorted(sums)
    slow = slow_interval([sums[r] / 15 for r in names], [counts[r] / 15 for r in names], 1.0, 0.9)
    found = preference_clustered(values, raters, 15, 0.9)
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)
    slow = slow_interval([sums[r] / counts[r] for r in names], [1.0] * len(names), 1.0, 0.9)
    found = preference_clustered(values, raters, None, 0.9)
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)
    assert found.n == 9


def test_weighted_and_stratified_agree_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(2)
    values, weights = rng.choice([0.0, 0.5, 1.0, 1 / 3], 50), rng.uniform(0.1, 3.0, 50)
    found = preference_weighted(values, weights, 3.0)
    slow = slow_interval((weights * values).tolist(), weights.tolist(), 3.0, 0.95)
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)
    assert found.point == pytest.approx(float(np.average(values, weights=weights)))
    strata, shares = np.repeat([0, 1, 3], [10, 25, 15]), [0.5, 0.3, 0.0, 0.2]
    found = preference_stratified(values, strata, shares)
    w = [{0: 0.5 / 10, 1: 0.3 / 25, 3: 0.2 / 15}[s] * 50 for s in strata.tolist()]
    slow = slow_interval([a * b for a, b in zip(w, values.tolist(), strict=True)], w, 2.5, 0.95)
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)
    parts = [float(np.mean(values[strata == s])) for s in (0, 1, 3)]
    assert found.point == pytest.approx(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])


def beta_bounds(k: float, n: float, tail: float) -> tuple[float, float]:
    low = 0.0 if k == 0 else float(scipy_stats.beta.ppf(tail, k, n - k + 1))
    return low, 1.0 if k == n else float(scipy_stats.beta.isf(tail, k + 1, n - k))


def test_difference_agrees_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(3)
    same = rng.random(80) < 0.6
    first = [float(rng.choice([0, 0.5, 1])) if rng.random() < 0.5 else NAN for _ in range(80)]
    judged = [v for v, s in zip(first, same, strict=True) if not s and not math.isnan(v)]
    found, differ = preference_difference(same, first), 80 - int(same.sum())
    shares = beta_bounds(differ, 80, 0.05 * 0.1 / 2)
    means = [2 * p - 1 for p in beta_bounds(sum(judged), len(judged), 0.05 * 0.9 / 4)]
    corners = [s * d for s in shares for d in means]
    assert (found.low, found.high) == pytest.approx((min(corners), max(corners)), abs=1e-9)
    assert found.point == pytest.approx(differ / 80 * (2 * sum(judged) / len(judged) - 1))


@pytest.mark.parametrize(
    ("k", "n", "wins", "m", "limit"),
    [(100, 1000, 18, 40, 0.48), (30, 30, 11, 30, 0.4), (7, 400, 0, 5, 0.48), (200, 300, 55, 60, 0.6)],
)
def test_p_value_agrees_with_a_slow_implementation(k: int, n: int, wins: int, m: int, limit: float) -> None:
    """The largest over r of the smaller of two binomial tails, by root finding on the survival functions."""

    def of_share(r: float) -> float:
        tail = scipy_stats.binom.cdf(k, n, r) if limit < 0.5 else scipy_stats.binom.sf(k - 1, n, r)
        return float(tail) / 0.1

    def of_preference(r: float) -> float:
        return float(scipy_stats.binom.sf(wins - 1, m, min(0.5 + (limit - 0.5) / r, 1.0))) / 0.45

    def gap(r: float) -> float:
        return of_share(r) - of_preference(r)

    start = 2 * abs(limit - 0.5) + 1e-13  # below, no preference makes the quality the limit
    at = [start, 1.0]
    if gap(start) * gap(1.0) < 0:
        at.append(float(optimize.brentq(gap, start, 1.0, xtol=1e-15)))
    slow = min(max(min(of_share(r), of_preference(r)) for r in at), 1.0)
    values = [1.0] * wins + [0.0] * (m - wins)
    assert quality_no_worse_p_value(k, n, values, limit) == pytest.approx(slow, abs=1e-9)


def test_rater_effect_agrees_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(4)
    raters = rng.integers(0, 7, 90)
    values = np.clip(rng.normal(0.3 + 0.06 * raters, 0.1), 0, 1)
    groups = [[float(v) for v, r in zip(values, raters, strict=True) if r == each] for each in range(7)]
    mean = sum(map(sum, groups)) / 90
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups) / 6
    within = sum((v - sum(g) / len(g)) ** 2 for g in groups for v in g) / 83
    squares = sum(len(g) ** 2 for g in groups) / 90
    correlation = (between - within) / (between + ((90 - squares) / 6 - 1) * within)
    found = rater_effect(values, raters)
    assert found.correlation == pytest.approx(correlation, rel=1e-9)
    assert found.design_effect == pytest.approx(1 + (squares - 1) * correlation, rel=1e-9)
    assert found.effective_pairs == pytest.approx(90 / found.design_effect)


# --- published numbers


def test_correlation_is_that_of_shrout_and_fleiss() -> None:
    """24 ratings, 6 x 4, of Shrout and Fleiss (1979), table 2; Stata's page on ``icc`` prints .1657418 (one-way)."""
    ratings = [9, 2, 5, 8, 6, 1, 3, 2, 8, 4, 6, 8, 7, 1, 2, 6, 10, 5, 6, 9, 6, 2, 4, 7]
    found = rater_effect(np.array(ratings) / 10, np.repeat(list("abcdef"), 4))
    assert found.correlation == pytest.approx(0.1657418, abs=5e-8)
    assert found.design_effect == pytest.approx(1 + 3 * 0.1657418, abs=2e-7)  # Kish: 1 + (m - 1) rho
    assert "6 raters: correlation in a rater 0.166, design effect 1.50, 24 pairs worth 16" in str(found)


def test_p_value_is_the_binomial_one_where_all_is_rejected() -> None:
    """scipy's page of ``binom_test``: 3 of 15 against 0.1, greater: 0.18406106910639114."""
    found = quality_no_worse_p_value(15, 15, [1.0] * 3 + [0.0] * 12, limit=0.1)
    assert found * 0.45 == pytest.approx(0.18406106910639114, rel=1e-12)


def test_difference_is_clopper_pearson_where_all_differ() -> None:
    """R, ``binom.test(48, 100)`` (endmemo.com/program/R/binomial.php): 0.3790055 to 0.5822102."""
    level = 1 - 0.1 / 0.9  # leaves 0.1 for the preference, a quarter of it for each side
    found = preference_difference(np.zeros(100), [1] * 48 + [0] * 52, level=level)
    assert found.low == pytest.approx(2 * 0.3790055 - 1, abs=2e-7)
    assert found.high == pytest.approx(2 * 0.5822102 - 1, abs=2e-7)


def test_p_value_without_judgements_is_ten_times_the_binomial_one() -> None:
    """Quality below 0.48 needs more than 4% rejected, whatever raters say."""
    for k, n in ((10, 500), (0, 100), (2, 199)):
        binomial = scipy_stats.binomtest(k, n, 0.04, alternative="less").pvalue
        assert quality_no_worse_p_value(k, n, []) == pytest.approx(min(1.0, 10 * binomial), rel=1e-9)


# --- properties


@given(st.lists(st.tuples(HALVES, st.integers(0, 6), st.floats(0.01, 4.0)), min_size=1, max_size=25))
@settings(max_examples=10, deadline=None)
def test_losses_mirror_wins_and_the_point_lies_within(rows: list[tuple[float, int, float]]) -> None:
    values, groups, weights = (np.array(each) for each in zip(*rows, strict=True))
    _, strata = np.unique(groups, return_inverse=True)
    shares = np.full(strata.max() + 1, 1 / (strata.max() + 1))
    none = np.zeros(values.size)
    for found, mirrored in (
        (preference_clustered(v, groups, 30) for v in (values, 1 - values)),
        (preference_clustered(v, groups, None) for v in (values, 1 - values)),
        (preference_weighted(v, weights, 4.0) for v in (values, 1 - values)),
        (preference_stratified(v, strata, shares) for v in (values, 1 - values)),
    ):
        assert 0.0 <= found.low <= found.point + 1e-12
        assert found.point - 1e-12 <= found.high <= 1.0
        assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-8)
    for second in (None, weights / 4):
        found = preference_difference(none, values, second)
        swapped = preference_difference(none, *((1 - values,) if second is None else (second, values)))
        assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-8)
        assert -1.0 <= found.low <= found.point <= found.high <= 1.0


@given(st.lists(HALVES, min_size=1, max_size=40), st.integers(1, 300), st.floats(0.3, 0.7))
@settings(max_examples=60, deadline=None)
def test_p_value_agrees_with_the_interval(values: list[float], rejected: int, limit: float) -> None:
    values = values[:rejected]
    p = quality_no_worse_p_value(rejected, 300, values, limit)
    if 1e-9 < p < 0.499:
        assert preference_coupled(rejected, values, 1 - 2 * p * (1 + 1e-6), n=300).low >= limit - 1e-12
    if p > 1e-9:
        below = min(p * (1 - 1e-6), 0.49)
        assert preference_coupled(rejected, values, 1 - 2 * below, n=300).low <= limit + 1e-12


@given(st.lists(HALVES, max_size=30), st.integers(1, 99), st.floats(0.3, 0.49))
@settings(max_examples=60, deadline=None)
def test_p_value_is_monotone(values: list[float], rejected: int, limit: float) -> None:
    values = values[: rejected - 1]  # judged pairs are pairs whose first draw was rejected
    p = quality_no_worse_p_value(rejected, 100, values, limit)
    assert 0.0 <= p <= 1.0
    assert quality_no_worse_p_value(rejected, 100, [*values, 1.0], limit) <= p * (1 + 1e-9)
    assert quality_no_worse_p_value(rejected, 100, [*values, 0.0], limit) >= p * (1 - 1e-9)
    assert quality_no_worse_p_value(rejected, 100, values, limit + 0.01) >= p * (1 - 1e-9)
    assert quality_no_worse_p_value(rejected + 1, 100, values, limit) >= p * (1 - 1e-9)


def test_few_raters_give_a_wide_interval_however_many_pairs() -> None:
    values = np.tile([1.0, 0.0, 1.0, 1.0], 2500)
    alone = preference_exact(values)
    two, twenty = (preference_clustered(values, np.arange(10_000) % k, 5000) for k in (2, 20))
    assert alone.high - alone.low < 0.03
    assert two.high - two.low > 0.5
    assert (two.n, twenty.n) == (2, 20)
    assert two.low < twenty.low < twenty.high < two.high
    each = preference_clustered(values[:800], np.arange(800), 1)  # a rater each: nothing is clustered
    assert each.high - each.low < 0.13


def test_the_cap_costs_only_where_raters_are_far_below_it() -> None:
    rng = np.random.default_rng(5)
    values, raters = rng.choice([0.0, 1.0], 400), np.repeat(np.arange(40), 10)
    tight, loose, means = (preference_clustered(values, raters, cap) for cap in (10, 100, None))
    assert (means.low, means.high) == pytest.approx((tight.low, tight.high), abs=1e-8)
    assert loose.low < tight.low < tight.high < loose.high


def test_names_and_numbers_of_raters_are_the_same() -> None:
    values, numbers = [1, 0, 0.5, 1, 1], [7, 7, 2, 2, 9]
    names = [f"rater {each}" for each in numbers]
    expected = preference_clustered(values, numbers, 3)
    for raters in (names, np.array(names), np.array(names, dtype=object), np.array(numbers, dtype=np.uint8)):
        assert preference_clustered(values, raters, 3) == expected


def test_rater_effect_knows_what_it_cannot_know() -> None:
    for values, raters in (([], []), ([1.0, 0.0], [1, 1]), ([1.0, 0.0], [1, 2]), ([1.0] * 4, [1, 1, 2, 2])):
        assert math.isnan(rater_effect(values, raters).design_effect)
    opposed = rater_effect([0, 0, 0, 1, 1, 1], [1, 1, 1, 2, 2, 2])  # nothing but the rater decides
    assert (opposed.correlation, opposed.design_effect, opposed.effective_pairs) == (1.0, 3.0, 2.0)
    assert rater_effect([0, 1, 0, 1], [1, 1, 2, 2]).design_effect == 1.0  # a negative correlation is noise


def test_many_items_share_cells_and_lose_little(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    values, weights = rng.beta(2, 3, 6000), np.exp(rng.normal(0, 1.5, 6000)).clip(0.02, 20)
    shared = preference_weighted(values, weights, 20.0)
    monkeypatch.setattr(betting_module, "_EXACT", 10**9)
    exact = preference_weighted(values, weights, 20.0)
    assert shared.point == pytest.approx(exact.point, abs=1e-12)
    assert shared.low <= exact.low < exact.high <= shared.high
    assert shared.high - shared.low < 1.01 * (exact.high - exact.low)
    monkeypatch.setattr(betting_module, "_EXACT", 1)
    equal = preference_clustered(np.full(50, 0.25), np.arange(50), 4)  # one cell, of no width
    assert equal.point == 0.25
    assert equal.low < 0.25 < equal.high


def test_same_text_needs_no_judgement() -> None:
    same, first = [1, 1, 0, 0, 0], [NAN, 0.0, 1.0, NAN, 0.5]
    found = preference_difference(same, first)
    assert found.point == pytest.approx(0.6 * 0.5)
    assert found == preference_difference(same, [NAN, NAN, 1.0, NAN, 0.5])
    two = preference_difference(same, [NAN, 0.5, 1.0, NAN, 0.5], [NAN, 0.0, 0.5, NAN, 0.5])
    assert two.point == pytest.approx(0.6 * 0.25)
    assert (found.what, two.what) == ("net preference", "quality difference")


def test_nothing_judged_gives_a_bound_and_nothing_at_all_the_full_width() -> None:
    found = preference_difference([True] * 90 + [False] * 10, [NAN] * 100)
    assert math.isnan(found.point)
    assert found.assumptions[0].startswith("no pair was judged")
    assert -0.25 < found.low == -found.high < -0.1
    assert preference_difference([True] * 1000, [NAN] * 1000).point == 0.0
    empty = [
        preference_clustered([], [], 5),
        preference_clustered([], [], None),
        preference_weighted([], [], 1),
    ]
    for each in empty:
        assert (each.low, each.high, each.n) == (0.0, 1.0, 0)
        assert math.isnan(each.point)
    nothing = preference_difference([], [])
    assert (nothing.low, nothing.high) == (-1.0, 1.0)
    assert math.isnan(nothing.point)
    assert quality_no_worse_p_value(0, 0, []) == 1.0
    bound = preference_coupled_by(10, lambda level: preference_clustered([], [], 5, level), n=100)
    assert bound.assumptions[0].startswith("no pair was judged")
    assert bound.low < 0.45
    assert preference_coupled_by([0] * 50, lambda level: preference_weighted([], [], 1, level)).point == 0.5


def test_coupling_by_the_exact_interval_is_the_coupled_preference() -> None:
    values = [1.0] * 30 + [0.5] * 20 + [0.0] * 25
    found = preference_coupled_by(90, lambda level: preference_exact(values, level), 0.9, n=1000)
    known = preference_coupled(90, values, 0.9, n=1000)
    assert (found.low, found.point, found.high) == (known.low, known.point, known.high)
    judge = Estimate(0.5, 0.4, 0.6, 0.999, 9, "judge", trusts="the judge is right", approximate=True)
    trusting = preference_coupled_by(90, lambda _: judge, n=1000)
    assert trusting.trusts == "the judge is right"
    assert trusting.approximate


# --- coverage


def draw_clustered(rng: np.random.Generator, raters: int, busy: bool) -> tuple[Any, Any]:
    """Lenient raters (preference 0.8) judge 1 or, when busy, 30 pairs; strict ones (0.1) judge 10."""
    lenient = rng.random(raters) < 0.5
    counts = np.where(lenient, 30 if busy else 1, 10)
    owner = np.repeat(np.arange(raters), counts)
    return (rng.random(owner.size) < np.where(lenient, 0.8, 0.1)[owner]).astype(float), owner


@pytest.mark.parametrize(("raters", "busy"), [(3, True), (40, False)])
def test_clustered_intervals_cover(raters: int, busy: bool) -> None:
    rng, rounds, covered = np.random.default_rng(7), 60, [0, 0, 0]
    most = 30 if busy else 1
    truth = (most * 0.8 + 10 * 0.1) / (most + 10)
    for _ in range(rounds):
        values, owner = draw_clustered(rng, raters, busy)
        covered[0] += preference_clustered(values, owner, 30).contains(truth)
        covered[1] += preference_clustered(values, owner, None).contains(0.45)
        rejected = int(rng.binomial(500, 0.3))
        covered[2] += preference_coupled_by(
            rejected,
            lambda level, v=values, o=owner: preference_clustered(v, o, 30, level),  # type: ignore[misc]
            n=500,
        ).contains(0.5 + 0.3 * (truth - 0.5))
    assert all(enough(each, rounds) for each in covered)


@pytest.mark.parametrize(("n", "spread"), [(40, 1.5), (1500, 2.0)])
def test_weighted_intervals_cover(n: int, spread: float) -> None:
    """Weights over three orders; heavy pairs are preferred."""
    rng, rounds, covered = np.random.default_rng(8), 50, 0
    pool = np.exp(rng.normal(0, spread, 20_000)).clip(0.03, 30)
    chance = np.where(pool > 1, 0.8, 0.3)
    truth = float(np.average(chance))
    sampling = (1 / pool) / (1 / pool).sum()
    for _ in range(rounds):
        drawn = rng.choice(pool.size, n, p=sampling)
        covered += preference_weighted(rng.random(n) < chance[drawn], pool[drawn], 30.0).contains(truth)
    assert enough(covered, rounds)


@pytest.mark.parametrize("sizes", [(3, 3), (100, 5, 20), (1,) * 12])
def test_stratified_intervals_cover(sizes: tuple[int, ...]) -> None:
    rng, rounds, covered = np.random.default_rng(9), 60, 0
    shares = np.arange(1.0, len(sizes) + 1) / sum(range(1, len(sizes) + 1))
    rates, strata = np.linspace(0.95, 0.2, len(sizes)), np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(rounds):
        values = (rng.random(strata.size) < rates[strata]).astype(float)
        covered += preference_stratified(values, strata, shares).contains(float(shares @ rates))
    assert enough(covered, rounds)


@pytest.mark.parametrize(("n", "differs", "judged"), [(30, 0.5, 1.0), (2000, 0.02, 0.5), (400, 0.3, 0.2)])
def test_differences_cover(n: int, differs: float, judged: float) -> None:
    rng, rounds, covered = np.random.default_rng(10), 60, [0, 0]
    for _ in range(rounds):
        same, asked = rng.random(n) >= differs, rng.random(n) < judged
        first = np.where(asked, rng.choice([1.0, 0.5, 0.0], n, p=[0.3, 0.5, 0.2]), NAN)
        second = np.where(asked, rng.choice([1.0, 0.5, 0.0], n, p=[0.2, 0.4, 0.4]), NAN)
        covered[0] += preference_difference(same, first).contains(differs * 0.1)
        covered[1] += preference_difference(same, first, second).contains(differs * 0.15)
    assert all(enough(each, rounds) for each in covered)


@pytest.mark.parametrize("r", [0.08, 0.2, 0.7, 1.0])
def test_p_value_is_valid_exactly(r: float) -> None:
    """At quality just at the limit, P(p <= alpha) is a finite sum over rejections, wins and ties."""
    n, most, limit, tie = 24, 5, 0.48, 0.2
    p = 0.5 + (limit - 0.5) / r
    wrong = dict.fromkeys((0.01, 0.05, 0.2, 0.5), 0.0)
    for k in range(n + 1):
        m, chance = min(k, most), float(scipy_stats.binom.pmf(k, n, r))
        for wins in range(m + 1):
            for ties in range(m + 1 - wins):
                losses = m - wins - ties
                weight = scipy_stats.multinomial.pmf(
                    [wins, ties, losses], m, [p - tie / 2, tie, 1 - p - tie / 2]
                )
                value = quality_no_worse_p_value(k, n, [1.0] * wins + [0.5] * ties + [0.0] * losses, limit)
                for alpha in wrong:
                    wrong[alpha] += chance * float(weight) * (value <= alpha)
    assert all(error <= alpha for alpha, error in wrong.items())
    assert wrong[0.5] > 0.0


def test_a_million_items_in_two_seconds() -> None:
    rng, n = np.random.default_rng(11), 1_000_000
    values, weights = rng.random(n), np.exp(rng.normal(0, 1.5, n)).clip(0.01, 50)
    groups, same = rng.integers(0, 5000, n), rng.random(n) < 0.5
    calls: list[Callable[[], object]] = [
        lambda: preference_weighted(values, weights, 50.0),
        lambda: preference_clustered(values, groups, 1000),
        lambda: preference_stratified(values, groups, np.full(5000, 1 / 5000)),
        lambda: preference_difference(same, values, 1 - values),
        lambda: quality_no_worse_p_value(n, n, values),
        lambda: rater_effect(values, groups),
    ]
    for call in calls:
        start = time.process_time()
        call()
        assert time.process_time() - start < 2.0


# --- misuse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preference_clustered([2.0], [1], 5), r"preferences must lie in \[0, 1\], got 2\.0"),
        (lambda: preference_clustered([NAN], [1], 5), "preferences must be finite, got nan"),
        (lambda: preference_clustered([1, 1], [1, 1], 1), "max_per_rater must be at least the 2 pairs"),
        (lambda: preference_clustered([1], [1], 0), "max_per_rater must be at least the 1 pairs"),
        (lambda: preference_clustered([1], [1], -1), "max_per_rater must not be negative"),
        (lambda: preference_clustered([1], [1, 2], 5), "raters must name one for each of the 1 pairs"),
        (
            lambda: preference_clustered([1], np.array([None]), 5),
            "raters must be all whole numbers or all names",
        ),
        (lambda: preference_clustered([1, 0], np.array(["a", NAN], object), 5), "got float, str"),
        (lambda: preference_clustered([1, 0], np.array([1.0, NAN]), 5), "raters must be all whole"),
        (lambda: rater_effect([1], [1.5]), "raters must be all whole numbers or all names, got float"),
        (lambda: preference_weighted([1], [0.0], 1), r"weights must lie above 0, and at most 1, got 0\.0"),
        (lambda: preference_weighted([1], [2.0], 1), r"weights must lie above 0, and at most 1, got 2\.0"),
        (lambda: preference_weighted([1], [NAN], 1), "weights must be finite, got nan"),
        (lambda: preference_weighted([1], [1.0], math.inf), "weight_bound must be finite and positive"),
        (lambda: preference_weighted([1], [1.0, 1.0], 1), "weights must have one value for each of the 1"),
        (lambda: preference_stratified([1], [0], [0.5, 0.5]), "stratum 1 holds 0.5 of the mass"),
        (
            lambda: preference_stratified([1], [2], [0.5, 0.5]),
            "strata must be whole numbers from 0 to 1, got",
        ),
        (lambda: preference_stratified([1], [0], [0.9]), r"shares must sum to 1, got 0\.9"),
        (lambda: preference_stratified([], [], []), "shares must sum to 1"),
        (lambda: preference_difference([0], [math.inf]), "first must be finite, got inf"),
        (lambda: preference_difference([0], [-1.0]), r"first must lie in \[0, 1\]"),
        (lambda: preference_difference([0], [1.0, 1.0]), "first must have one value for each of the 1 items"),
        (
            lambda: preference_difference([0], [1.0], [NAN]),
            "first and second must both be judged, or neither",
        ),
        (lambda: preference_difference([2], [1.0]), "same must be 0 or 1, or booleans, got 2"),
        (lambda: quality_no_worse_p_value(4, 3, []), "rejected_first must not exceed the 3 prompts"),
        (
            lambda: quality_no_worse_p_value(0, 3, [1.0]),
            "preferences must not exceed the 0 rejected first draws",
        ),
        (
            lambda: quality_no_worse_p_value(2, 3, [1.0] * 3),
            "must not exceed the 2 rejected first draws, got 3",
        ),
        (
            lambda: preference_coupled_by(30, lambda level: preference_exact([1.0] * 31, level), n=100),
            "preferences must not exceed the 30 rejected first draws, got 31",
        ),
        (lambda: quality_no_worse_p_value(1, 3, [-0.1]), r"preferences must lie in \[0, 1\]"),
        (
            lambda: preference_coupled_by([0], lambda level: preference_exact([1.0], level)),
            "preferences must not exceed the 0 rejected first draws",
        ),
    ],
)
def test_broken_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: preference_clustered([1], [1], 5, 95),
        lambda: preference_weighted([1], [1], 5, 95),
        lambda: preference_stratified([1], [0], [1], 95),
        lambda: preference_difference([0], [1], level=95),
        lambda: preference_coupled_by([1], lambda level: preference_exact([1], level), 95),
        lambda: quality_no_worse_p_value(1, 2, [], 48),
    ],
)
def test_percentages_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must lie strictly between 0 and 1, got"):
        call()


def test_an_estimate_at_its_own_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"preferred must be at the level of 0\.955 asked for, got 0\.95"):
        preference_coupled_by([1, 0], lambda _: preference_exact([1.0]))
