"""Survival curves: golden numbers, exact arithmetic, properties, coverage with and without censoring."""

from __future__ import annotations

import json
import math
import time
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.duration.survfunc import SurvfuncRight

from fivenines.errors import ConfigError, DataError
from fivenines.stats import Estimate
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.survival import SurvivalCurve, _BetaProduct, survival_curve

ATTEMPTS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=40)


def _curve(attempts: list[tuple[int, bool]], level: float = 0.95) -> SurvivalCurve:
    return survival_curve([t for t, _ in attempts], [c for _, c in attempts], level)


# --- golden numbers


def test_the_worked_example_of_bpcp() -> None:
    """R package bpcp, vignette "Beta Product Confidence Intervals for Discrete Failure Times" (Fay and
    Brittain): bpcp(c(3, 7, 8, 14), c(1, 1, 1, 1)), limits between the times of failure."""
    curve = survival_curve([3, 7, 8, 14], [1, 1, 1, 1])
    assert curve.survival == pytest.approx([0.75, 0.5, 0.25, 0.0])
    start = curve.at(1.0)
    assert (start.point, start.low, start.high) == pytest.approx((1.0, 0.397635364, 1.0), abs=5e-10)
    assert curve.lower == pytest.approx([0.194120450, 0.067585986, 0.006309463, 0.0], abs=5e-10)
    assert curve.upper == pytest.approx([0.9936905, 0.9324140, 0.8058796, 0.6023646], abs=5e-8)


@pytest.mark.parametrize(
    ("times", "confirmed", "steps", "survival", "at_risk"),
    [
        # R, survival::survfit, as quoted in statsmodels' test_survfunc
        (
            [3, 1, 2, 3, 2, 1, 5, 3],
            [0, 1, 1, 1, 0, 0, 1, 0],
            [1, 2, 3, 5],
            [0.875, 0.7291667, 0.546875, 0.0],
            [8, 6, 4, 1],
        ),
        (
            [1, 1, 2, 3, 7, 1, 5, 3, 9],
            [0, 1, 0, 0, 1, 0, 1, 0, 1],
            [1, 5, 7, 9],
            [0.8888889, 0.5925926, 0.2962963, 0.0],
            [9, 3, 2, 1],
        ),
    ],
)
def test_the_curve_is_kaplan_meiers(
    times: list[int], confirmed: list[int], steps: list[int], survival: list[float], at_risk: list[int]
) -> None:
    curve = survival_curve(times, confirmed)
    deaths = curve.confirmed > 0
    assert curve.times[deaths].tolist() == steps
    assert curve.survival[deaths] == pytest.approx(survival, abs=5e-8)
    assert curve.at_risk[deaths].tolist() == at_risk


@given(ATTEMPTS)
def test_statsmodels_agrees_on_the_curve(attempts: list[tuple[int, bool]]) -> None:
    if not any(c for _, c in attempts):
        return
    curve = _curve(attempts)
    times, status = [t for t, _ in attempts], [int(c) for _, c in attempts]
    theirs = SurvfuncRight(times, status)  # type: ignore[no-untyped-call]
    expected = dict(zip(theirs.surv_times, theirs.surv_prob, strict=True))
    for when, value, deaths in zip(curve.times, curve.survival, curve.confirmed, strict=True):
        if deaths:
            assert value == pytest.approx(expected[when], abs=1e-12)


def test_reads_as_it_should() -> None:
    curve = survival_curve([3, 7, 10, 10], [True, True, False, False], unit="minute")
    assert curve.at(10).line == (
        "share without a confirmed success at 10 minutes 0.500 (95%: 0.0675 to 0.933, beta product, n = 4)"
    )
    assert "no attempt could be given up before 10 minutes" in curve.at(10).assumptions
    assert curve.median().line.startswith(
        "median minutes to the first confirmed success 7.00 (95%: 0 to inf, "
    )
    censored = survival_curve([3, 5, 10], [True, False, True]).at(10)
    assert "(about 95%: " in censored.line
    assert any("shown by simulation" in each for each in censored.assumptions)
    for found in (curve.at(10), curve.median(), censored):
        assert Estimate.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


# --- independent slow implementations


def _tail_exactly(rates: list[int], w: float) -> Fraction:
    """P(product of Beta(y, 1) <= w), by partial fractions in rational arithmetic: no rounding at all."""
    total = Fraction(0)
    for y in rates:
        share = Fraction(1)
        for other in rates:
            if other != y:
                share *= Fraction(other, other - y)
        total += share * Fraction(w) ** y
    return total


RATES = st.lists(st.integers(1, 60), min_size=1, max_size=25, unique=True).map(
    lambda y: sorted(y, reverse=True)
)


@settings(max_examples=50)
@given(RATES, st.sampled_from([0.49, 0.25, 0.1, 0.025, 0.0005]), st.booleans(), st.booleans())
def test_quantiles_of_beta_products(rates: list[int], tail: float, upper: bool, split: bool) -> None:
    extra = rates[-1] if split else 0  # the last factor may be given apart
    product = _BetaProduct(np.array(rates[:-1] if split else rates, dtype=float))
    w = product.quantile(len(rates) - split, extra, tail, upper=upper)
    below = _tail_exactly(rates, w)
    assert float(1 - below if upper else below) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize("n", [40, 500, 20_000, 1_000_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("tail", [0.4, 0.025, 1e-4])
def test_long_products_without_gaps_are_beta(n: int, share: float, tail: float) -> None:
    k = min(max(1, int(share * n)), n - 1)
    product = _BetaProduct(np.arange(n, 0, -1.0))
    low, high = (product.quantile(k, 0, tail, upper=upper) for upper in (False, True))
    assert low == pytest.approx(special.betaincinv(n - k + 1, k, tail), rel=1e-9)
    assert high == pytest.approx(special.betainccinv(n - k + 1, k, tail), rel=1e-9)


def test_long_products_with_gaps_agree_with_simulation() -> None:
    rng = np.random.default_rng(20260729)
    rates = np.sort(rng.choice(5_000, size=600, replace=False) + 1)[::-1].astype(float)
    drawn = np.exp(-sum(rng.exponential(1.0 / y, size=20_000) for y in rates))
    product = _BetaProduct(rates)
    for upper in (False, True):
        w = product.quantile(rates.size, 0, 0.1, upper=upper)
        missed = np.mean(drawn > w if upper else drawn < w)
        assert abs(missed - 0.1) <= 4 * math.sqrt(0.1 * 0.9 / 20_000)


def test_equal_moments_would_not_do() -> None:
    """A beta distribution of the product's mean and variance puts 4.4% where 2.5% was meant."""
    rates = [30, 29, 28, 10, 9, 1]
    y = np.array(rates, dtype=float)
    mean, square = np.prod(y / (y + 1)), np.prod(y / (y + 2))
    size = (mean - square) / (square - mean**2)
    w = float(special.betaincinv(size * mean, size * (1 - mean), 0.025))
    assert float(_tail_exactly(rates, w)) == pytest.approx(0.044, abs=5e-4)
    assert _BetaProduct(y).quantile(6, 0, 0.025, upper=False) < 0.6 * w


def _limits_slowly(attempts: list[tuple[int, bool]], when: float, tail: float) -> tuple[float, float, float]:
    """Curve and limits at a time, attempt by attempt, the quantiles by bisection of exact probabilities."""
    point, rates = 1.0, []
    for t in sorted({t for t, c in attempts if c and t <= when}):
        running = sum(1 for other, _ in attempts if other >= t)
        deaths = sum(1 for other, c in attempts if c and other == t)
        point *= 1 - deaths / running
        rates += [running - i for i in range(deaths)]
    without = sum(1 for t, c in attempts if t > when or (t == when and not c))

    def quantile(factors: list[int], probability: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(45):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if _tail_exactly(factors, middle) < Fraction(probability) else (low, middle)
            )
        return (low + high) / 2

    upper = quantile(rates, 1 - tail) if rates else 1.0
    return point, quantile([*rates, without], tail) if without else 0.0, upper


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=9), st.floats(0.0, 7.0))
def test_limits_attempt_by_attempt(attempts: list[tuple[int, bool]], when: float) -> None:
    for moment in (when, round(when)):
        found = _curve(attempts).at(moment)
        point, low, high = _limits_slowly(attempts, moment, 0.025)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
        beyond = moment > max(t for t, _ in attempts) and point > 0
        assert math.isnan(found.point) if beyond else found.point == pytest.approx(point, abs=1e-12)


@settings(max_examples=30)
@given(ATTEMPTS)
def test_the_median_is_where_the_limits_cross_one_half(attempts: list[tuple[int, bool]]) -> None:
    curve = _curve(attempts, 0.8)
    found = curve.median()
    low = 0.0 if curve.at(0.0).low <= 0.5 else curve.times[np.flatnonzero(curve.lower <= 0.5)[0]]
    crossed = curve.times[curve.upper < 0.5]
    reached = curve.times[curve.survival <= 0.5 + 1e-9]
    assert (found.low, found.high) == (low, crossed[0] if crossed.size else math.inf)
    assert math.isnan(found.point) if not reached.size else found.point == reached[0]


# --- properties


@given(st.integers(1, 200), st.data(), st.sampled_from([0.5, 0.95, 0.999]))
def test_without_giving_up_it_is_clopper_pearson(n: int, data: st.DataObject, level: float) -> None:
    k = data.draw(st.integers(0, n))
    times = [*range(1, k + 1), *[k + 5] * (n - k)]  # k successes, all others reach a limit of k + 5
    curve = survival_curve(times, [i < k for i in range(n)], level)
    for when in (k, k + 1, k + 5):
        found = curve.at(when)
        assert (found.low, found.high) == pytest.approx(clopper_pearson(n - k, n, (1 - level) / 2), rel=1e-12)
        assert not found.approximate
    later = curve.at(k + 6)
    assert (later.low, later.high) == (0.0, found.high)


@settings(max_examples=40)
@given(ATTEMPTS)
def test_limits_hold_the_curve_and_only_fall(attempts: list[tuple[int, bool]]) -> None:
    curve = _curve(attempts)
    known = np.append(curve.at_risk[1:], 0) > 0  # someone still runs
    assert (curve.lower <= curve.survival + 1e-12).all()
    assert (curve.survival[known] <= curve.upper[known] + 1e-12).all()
    assert (np.diff(curve.lower) <= 1e-12).all()
    assert (np.diff(curve.upper) <= 1e-12).all()
    assert (curve.upper > 0.0).all()
    assert curve.lower[-1] == 0.0


@settings(max_examples=25)
@given(ATTEMPTS, st.randoms(use_true_random=False))
def test_order_and_unit_of_the_attempts_do_not_matter(
    attempts: list[tuple[int, bool]], random: Random
) -> None:
    shuffled = sorted(attempts, key=lambda _: random.random())
    one, other = _curve(attempts), _curve([(60 * t, c) for t, c in shuffled])
    assert one.at(4).low == other.at(240).low
    assert one.at(4).high == other.at(240).high
    assert 60 * one.median().low == other.median().low


def test_at_one_time_successes_come_before_giving_up() -> None:
    same = survival_curve([5, 5, 5, 9], [True, False, False, False])
    later = survival_curve([5, 6, 6, 9], [True, False, False, False])
    assert same.survival[0] == 0.75
    assert (same.at(5).low, same.at(5).high) == (later.at(5).low, later.at(5).high)
    assert same.at(5.5).low < same.at(5).low  # only one is known to have got beyond 5
    assert same.at(5.5).approximate
    assert not same.at(5).approximate


def test_a_higher_level_gives_wider_limits() -> None:
    rng = np.random.default_rng(3)
    first, end = rng.exponential(size=30), rng.uniform(0, 2, size=30)
    bounds = [
        survival_curve(np.minimum(first, end), first <= end, level).at(0.8) for level in (0.5, 0.9, 0.999)
    ]
    assert [each.low for each in bounds] == sorted((each.low for each in bounds), reverse=True)
    assert [each.high for each in bounds] == sorted(each.high for each in bounds)


def test_a_long_curve_moves_its_limits_outwards() -> None:
    rng = np.random.default_rng(4)
    first, end = rng.exponential(size=700), rng.uniform(0, 3, size=700)
    curve = survival_curve(np.minimum(first, end), first <= end)
    assert curve.times.size == 700
    for step in range(5, 700, 101):
        found = curve.at(float(curve.times[step]) * (1 + 1e-12))
        assert curve.lower[step] <= found.low
        assert curve.upper[step] >= found.high
        assert found.low - curve.lower[step] < 0.01
        assert curve.upper[step] - found.high < 0.01


# --- coverage


@pytest.mark.parametrize(("n", "left"), [(50, 0.99), (12, 0.5), (30, 0.05)])
def test_coverage_at_a_limit_summed_over_all_counts(n: int, left: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        found = survival_curve([1.0] * k + [2.0] * (n - k), [True] * k + [False] * (n - k)).at(2.0)
        covered += scipy_stats.binom.pmf(k, n, 1 - left) * found.contains(left)
    assert covered >= 0.95 - 1e-9


@pytest.mark.parametrize(("n", "time_", "giving_up"), [(20, 0.36, 0.5), (25, 1.6, 0.8), (40, 2.3, 1.0)])
def test_coverage_under_heavy_giving_up(n: int, time_: float, giving_up: float) -> None:
    """Exponential times to success; up to 9 in 10 attempts are given up before the time in question."""
    rng, rounds = np.random.default_rng(20260729), 250
    below = above = 0
    for _ in range(rounds):
        first, end = rng.exponential(size=n), rng.exponential(giving_up, size=n)
        found = survival_curve(np.minimum(first, end), first <= end, 0.9).at(time_)
        below += found.high < math.exp(-time_)
        above += found.low > math.exp(-time_)
    for missed in (below, above):  # each side by itself
        assert missed / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_coverage_of_the_median() -> None:
    rng, rounds = np.random.default_rng(20260729), 80
    covered = 0
    for _ in range(rounds):
        first, end = rng.exponential(size=20), rng.uniform(0.0, 3.0, size=20)
        covered += survival_curve(np.minimum(first, end), first <= end, 0.9).median().contains(math.log(2))
    assert covered / rounds >= 0.9 - 3 * math.sqrt(0.09 / rounds)


# --- no data, broken data, much data


def test_no_attempts_say_nothing() -> None:
    curve = survival_curve([], [])
    for found, high in ((curve.at(3.0), 1.0), (curve.median(), math.inf)):
        assert (found.low, found.high, found.n) == (0.0, high, 0)
        assert math.isnan(found.point)
    assert curve.times.size == curve.lower.size == curve.upper.size == 0


def test_one_attempt() -> None:
    success, limit = survival_curve([2.0], [True]), survival_curve([2.0], [False])
    assert (success.at(2.0).low, success.at(2.0).high) == pytest.approx((0.0, 0.975))
    assert (limit.at(2.0).low, limit.at(2.0).high) == pytest.approx((0.025, 1.0))
    assert (limit.at(2.1).low, limit.at(2.1).high) == (0.0, 1.0)
    assert math.isnan(limit.at(2.1).point)
    assert (limit.median().low, limit.median().high) == (0.0, math.inf)


def test_no_success_is_not_a_share_of_one() -> None:
    found = survival_curve([100.0] * 50, [False] * 50).at(100.0)
    assert found.point == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 50))


def test_everything_succeeds_at_once() -> None:
    found = survival_curve([7] * 40, [True] * 40).at(7)
    assert (found.point, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 40))


def test_a_million_attempts_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    first, end = rng.exponential(size=1_000_000), rng.uniform(0, 2, size=1_000_000)
    times, confirmed = np.minimum(first, end), first <= end
    start = time.process_time()
    curve = survival_curve(times, confirmed)
    found, median = curve.at(1.0), curve.median()
    assert time.process_time() - start < 2.0
    assert found.contains(math.exp(-1))
    assert median.contains(math.log(2))
    assert found.high - found.low < 0.004


@pytest.mark.parametrize(
    ("times", "confirmed", "message"),
    [
        ([1, -2], [0, 1], r"times must not be negative, got -2\.0"),
        ([1, math.nan], [0, 1], "times must be finite, got nan"),
        ([1, math.inf], [0, 0], "times must be finite, got inf"),
        ([1, 0], [0, 1], r"times must be positive where confirmed is set, got 0\.0"),
        ([1, 2], [0, 3], "confirmed must be 0 or 1, or booleans, got 3"),
        ([1, 2], [0], "confirmed must have one value for each of the 2 items, got 1"),
        ([[1, 2]], [0, 1], "times must be a flat list"),
    ],
)
def test_attempts_that_cannot_be_are_refused(times: list[float], confirmed: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        survival_curve(times, confirmed)


@pytest.mark.parametrize("level", [95, 0.0, 1.0, math.nan, -1])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match=r"level must lie strictly between 0 and 1.*Write 0\.95, not 95"):
        survival_curve([1], [1], level)


@pytest.mark.parametrize("when", [math.nan, math.inf, -1.0])
def test_a_time_that_cannot_be_is_refused(when: float) -> None:
    with pytest.raises(DataError, match="time must be finite and not negative"):
        survival_curve([1], [1]).at(when)


def test_a_unit_must_have_a_name() -> None:
    with pytest.raises(ConfigError, match="unit must name one unit of exposure"):
        survival_curve([1], [1], unit="")
