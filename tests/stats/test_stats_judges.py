"""The failure rate corrected for a judge's errors: golden points, refused triples, coverage to the last count."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from fivenines.errors import ConfigError, DataError
from fivenines.stats import Estimate
from fivenines.stats import judges as judges_module
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.judges import failure_rate_corrected

BILLION = 10**9


# --- published numbers


def test_points_of_the_epir_documentation() -> None:
    # R epiR, ?epi.prev: 23 of 150 cows positive, sensitivity 96%, specificity 89%: 5.1 cases per 100
    cows = failure_rate_corrected(23, 150, 96, 100, 89, 100)
    assert round(100 * cows.point, 1) == 5.1
    # Moujaber et al. 2008, same page: 6 of 151, 96.4% and 92.7%: 0 cases per 100
    children = failure_rate_corrected(6, 151, 964, 1000, 927, 1000)
    assert children.point == 0.0
    assert any("clipped to [0, 1]" in note for note in children.assumptions)


def test_known_judge_gives_the_exact_interval_of_r_surveillance() -> None:
    # R RSurveillance, example of ?tp: tp(20, 120, 0.9, 0.99, "c-p") prints 0.17603 0.1066051 0.2647191
    # for a test whose errors are known; a check of a billion texts each makes them so
    found = failure_rate_corrected(20, 120, 9 * BILLION // 10, BILLION, 99 * BILLION // 100, BILLION)
    assert found.point == pytest.approx(0.17603, abs=5e-6)
    assert 0.1066051 * 0.985 < found.low <= 0.1066051
    assert 0.2647191 <= found.high < 0.2647191 * 1.01


# --- independent slow implementations


def slow_score(rate: float, sens: float, alarms: float, counts: tuple[int, int, int, int, int, int]) -> float:
    """The weighted sum for one triple, from scipy's distributions."""
    flagged, n, caught, failures, cleared, oks = counts
    q = rate * sens + (1 - rate) * alarms
    p_values = (
        stats.binom.cdf(flagged, n, q),
        stats.binom.sf(caught - 1, failures, sens),
        stats.binom.sf(oks - cleared - 1, oks, alarms),
    )
    z = [max(0.0, float(stats.norm.isf(p))) for p in p_values]
    deviations = (
        math.sqrt(q * (1 - q) / n),
        rate * math.sqrt(sens * (1 - sens) / failures),
        (1 - rate) * math.sqrt(alarms * (1 - alarms) * min(1 / oks, q / 4)),
    )
    length = math.hypot(*deviations)
    return sum(d * value for d, value in zip(deviations, z, strict=True) if d > 0) / length


def counted(counts: tuple[int, int, int, int, int, int]) -> judges_module._Counts:
    return judges_module._Counts.checked(*counts)


COUNTS = [(5, 1000, 45, 50, 990, 1000), (0, 400, 18, 20, 60, 60), (30, 200, 8, 10, 95, 100)]


@pytest.mark.parametrize("counts", COUNTS)
def test_score_agrees_with_a_slow_one(counts: tuple[int, int, int, int, int, int]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        rate, sens, alarms = rng.beta(0.5, 5), rng.beta(5, 1), rng.beta(0.5, 20)
        excess = judges_module._excess(
            np.array([rate]), np.array([sens]), np.array([alarms]), counted(counts), 0.025
        )[0]
        slow = slow_score(rate, sens, alarms, counts)
        q = rate * sens + (1 - rate) * alarms
        deviations = np.array(
            [
                q * (1 - q) / counts[1],
                rate**2 * sens * (1 - sens) / counts[3],
                (1 - rate) ** 2 * alarms * (1 - alarms) * min(1 / counts[5], q / 4),
            ]
        )
        others = math.sqrt(1 - deviations.max() / deviations.sum())
        critical = float(np.interp(others, *judges_module._critical_values(0.025 * 0.96)))
        assert excess == pytest.approx(slow - critical, abs=1e-9)


@pytest.mark.parametrize("counts", COUNTS)
def test_no_triple_above_the_bound_is_kept_and_one_below_is(
    counts: tuple[int, int, int, int, int, int],
) -> None:
    tail = 0.025
    found = failure_rate_corrected(*counts)
    sens_limit = clopper_pearson(counts[2], counts[3], tail / 50)[0]
    alarm_limit = clopper_pearson(counts[5] - counts[4], counts[5], tail / 50)[0]
    rng = np.random.default_rng(2)
    sens = np.append(rng.uniform(sens_limit, 1, 150), sens_limit)
    alarms = np.append(alarm_limit + (1 - alarm_limit) * rng.random(150) ** 6, alarm_limit)
    above = found.high + (1 - found.high) * np.append(rng.random(12) ** 3, 0.002)
    excess = judges_module._excess(above, np.sort(sens), np.sort(alarms), counted(counts), tail)
    assert np.all(excess > 0)
    grid = (
        judges_module._values(counts[2], counts[3], tail),
        judges_module._values(counts[5] - counts[4], counts[5], tail),
    )
    below = judges_module._excess(np.array([found.high * 0.999]), *grid, counted(counts), tail)
    assert below[0] < 0


def test_tail_of_the_weighted_sum_agrees_with_integration() -> None:
    for value, radius in ((2.05, 0.5), (2.7, math.sqrt(2 / 3))):
        largest, each = math.sqrt(1 - radius**2), radius / math.sqrt(2)

        def beyond(
            z: float, value: float = value, largest: float = largest
        ) -> float:  # Z1+ makes up the rest
            return float(stats.norm.sf(max(value - z, 0.0) / largest)) if value > z else 1.0

        one, _ = integrate.quad(
            lambda u, each=each, beyond=beyond: stats.norm.pdf(u) * beyond(each * u),
            0, 12, points=[value / each] if value / each < 12 else None, epsabs=1e-13,
        )  # fmt: skip
        two, _ = integrate.dblquad(
            lambda u, v, each=each, beyond=beyond: stats.norm.pdf(u) * stats.norm.pdf(v) * beyond(each * (u + v)),
            0, 10, 0, lambda v, each=each, value=value: max(value / each - v, 0.0), epsabs=1e-11,
        )  # fmt: skip
        # where u + v alone reach the value, Z1 does not matter
        rest, _ = integrate.quad(
            lambda v, each=each, value=value: stats.norm.pdf(v) * stats.norm.sf(max(value / each - v, 0.0)),
            0, 12, epsabs=1e-13,
        )  # fmt: skip
        slow = 0.25 * beyond(0.0) + one + two + rest
        assert judges_module._tail(value, radius) == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("tail", [0.2, 0.024, 0.0048, 1e-5])
def test_critical_values_hold_for_every_split_of_the_weights(tail: float) -> None:
    radii, critical = judges_module._critical_values(tail)
    points, mass = np.polynomial.legendre.leggauss(300)
    rng = np.random.default_rng(3)
    for power in (0.3, 1.0, 3.0):
        for _ in range(80):
            weights = np.sort(np.abs(rng.normal(size=3)) ** power)
            weights /= np.linalg.norm(weights)
            value = float(np.interp(math.sqrt(1 - weights[2] ** 2), radii, critical))
            assert exceeds(value, weights, points, mass) <= tail


def exceeds(value: float, weights: np.ndarray, points: np.ndarray, mass: np.ndarray) -> float:
    """P(sum of w Z+ >= value), ascending weights: two by Owen's function, the smallest integrated."""
    smallest, second, first = np.maximum(weights, 1e-9)

    def two(at: np.ndarray) -> np.ndarray:
        near = np.maximum(at, 0.0) / math.hypot(first, second)
        owen = special.owens_t(near, second / first) + special.owens_t(near, first / second)
        tails = 0.5 * (special.ndtr(-at / first) + special.ndtr(-at / second))
        return np.where(at > 0, tails + owen, 1.0)

    top = min(value / smallest, 10.0)
    z = (points + 1) / 2 * top
    inside = (mass / 2 * top * stats.norm.pdf(z) * two(value - smallest * z)).sum()
    return float(0.5 * two(np.array(value)) + inside + special.ndtr(-top))


# --- properties


@st.composite
def any_counts(draw: st.DrawFn) -> tuple[int, int, int, int, int, int]:
    numbers = []
    for _ in range(3):
        total = draw(st.integers(0, 300))
        numbers += [draw(st.integers(0, total)), total]
    return tuple(numbers)  # type: ignore[return-value]


@given(any_counts())
@settings(max_examples=40, deadline=None)
def test_any_counts_give_an_interval_with_the_point_in_it(
    counts: tuple[int, int, int, int, int, int],
) -> None:
    found = failure_rate_corrected(*counts)
    assert 0.0 <= found.low <= found.high <= 1.0
    assert math.isnan(found.point) or found.low <= found.point <= found.high
    n = counts[1]
    assert found.high >= (clopper_pearson(0, n, 0.025)[1] if n else 1.0) - 1e-12
    assert found.trusts
    assert not found.approximate


@given(any_counts())
@settings(max_examples=20, deadline=None)
def test_exchanging_failures_and_the_rest_turns_the_interval(
    counts: tuple[int, int, int, int, int, int],
) -> None:
    flagged, n, caught, failures, cleared, oks = counts
    one = failure_rate_corrected(*counts)
    other = failure_rate_corrected(n - flagged, n, cleared, oks, caught, failures)
    if one.high > clopper_pearson(0, n, 0.025)[1] and other.high > clopper_pearson(0, n, 0.025)[1]:
        assert one.low == pytest.approx(1 - other.high, abs=1e-6)
        assert one.high == pytest.approx(1 - other.low, abs=1e-6)


def test_more_data_and_lower_levels_narrow_it() -> None:
    few = failure_rate_corrected(10, 1000, 45, 50, 495, 500)
    many = failure_rate_corrected(100, 10_000, 450, 500, 4950, 5000)
    sure = failure_rate_corrected(10, 1000, 45, 50, 495, 500, level=0.999)
    assert many.high - many.low < few.high - few.low < sure.high - sure.low


def test_a_better_checked_judge_narrows_it_and_never_below_a_perfect_one() -> None:
    highs = [failure_rate_corrected(0, 30_000, 9 * k, 10 * k, 100 * k, 100 * k).high for k in (2, 10, 1000)]
    assert sorted(highs, reverse=True) == highs
    assert highs[-1] >= clopper_pearson(0, 30_000, 0.025)[1] / 0.9


def test_it_is_well_inside_the_bonferroni_box() -> None:
    tail = 0.025 / 3
    for counts in ((0, 30_000, 90, 100, 1000, 1000), (50, 3330, 130, 157, 3308, 3324)):
        flagged, n, caught, failures, cleared, oks = counts
        q = clopper_pearson(flagged, n, tail)[1]
        sens, alarms = (
            clopper_pearson(caught, failures, tail)[0],
            clopper_pearson(oks - cleared, oks, tail)[0],
        )
        point = failure_rate_corrected(*counts)
        assert point.high - point.point < 0.8 * ((q - alarms) / (sens - alarms) - point.point)


# --- no data, no judge


@pytest.mark.parametrize(
    ("counts", "note"),
    [
        ((0, 0, 5, 5, 5, 5), "no item was judged"),
        ((3, 10, 0, 0, 0, 0), "no better than chance"),
        ((3, 10, 5, 10, 5, 10), "no better than chance"),
        ((0, 100_000, 3, 3, 3, 3), "no better than chance"),
        ((0, 10_000, 95, 100, 9_000, 10_000), "contradicts the check"),
        ((100, 100, 50, 100, 100, 100), "contradicts the check"),
    ],
)
def test_where_nothing_is_bounded_it_says_why(counts: tuple[int, int, int, int, int, int], note: str) -> None:
    found = failure_rate_corrected(*counts)
    assert (found.low, found.high) == (0.0, 1.0)
    assert note in found.assumptions[0]


def test_zero_flagged_never_gives_zero() -> None:
    found = failure_rate_corrected(0, 1_000, 50, 50, 1_000, 1_000)
    assert found.point == found.low == 0.0
    assert found.high > clopper_pearson(0, 1_000, 0.025)[1]
    # fewer flags than the false alarms of the check would give: no lower rate than without a flag at all
    few = failure_rate_corrected(6, 10_000, 95, 100, 9_990, 10_000)
    assert few.high >= clopper_pearson(0, 10_000, 0.025)[1] - 1e-12


def test_perfect_judge_and_all_failures() -> None:
    found = failure_rate_corrected(200, 200, 300, 300, 300, 300)
    assert found.point == found.high == 1.0
    assert 0.95 < found.low < clopper_pearson(200, 200, 0.025)[0]


def test_huge_counts() -> None:
    found = failure_rate_corrected(3, BILLION, BILLION - 10, BILLION, BILLION - 3, BILLION)
    assert 0.0 <= found.low <= found.high < 1e-7


def test_it_prints_what_it_trusts() -> None:
    found = failure_rate_corrected(50, 3330, 130, 157, 3308, 3324)
    assert "if the judge errs here as in its check" in found.line
    assert any("the same in that distribution as in the check" in note for note in found.assumptions)
    assert Estimate.from_dict(found.to_dict()) == found


# --- misuse


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((11, 10, 5, 5, 5, 5), r"flagged must not exceed the 10 of n, got 11\."),
        ((1, 10, 6, 5, 5, 5), r"caught must not exceed the 5 of failures_checked, got 6\."),
        ((1, 10, 5, 5, 6, 5), r"cleared must not exceed the 5 of oks_checked, got 6\."),
        ((-1, 10, 5, 5, 5, 5), r"flagged must not be negative, got -1\."),
        ((1, 10, 2.5, 5, 5, 5), r"caught must be a whole number, got 2\.5\."),
        ((1, float("nan"), 2, 5, 5, 5), r"n must be a whole number, got nan\."),
    ],
)
def test_misuse_is_refused(counts: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        failure_rate_corrected(*counts)


def test_a_level_of_95_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"level must lie strictly between 0 and 1, got 95"):
        failure_rate_corrected(1, 10, 5, 5, 5, 5, level=95)


# --- coverage


def test_each_bound_holds_for_every_count_of_a_small_design() -> None:
    n, failures, oks, level = 7, 8, 9, 0.6
    shape = (n + 1, failures + 1, oks + 1)
    lows, highs = np.zeros(shape), np.ones(shape)
    for cell in itertools.product(*map(range, shape)):
        found = failure_rate_corrected(cell[0], n, cell[1], failures, oks - cell[2], oks, level)
        lows[cell], highs[cell] = found.low, found.high
    assert np.mean((lows > 0) | (highs < 1)) > 0.15  # the design is not too small to say anything
    for rate, sens, alarms in itertools.product(
        (0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0), (0.3, 0.7, 0.9, 1.0), (0.0, 0.02, 0.1, 0.4)
    ):
        q = rate * sens + (1 - rate) * alarms
        chance = functools.reduce(
            np.multiply.outer,
            [stats.binom.pmf(np.arange(m + 1), m, p) for m, p in ((n, q), (failures, sens), (oks, alarms))],
        )
        for missed in (lows > rate + 1e-9, highs < rate - 1e-9):
            assert chance[missed].sum() <= (1 - level) / 2 + 1e-9


@functools.cache
def cached(flagged: int, n: int, caught: int, failures: int, cleared: int, oks: int) -> Estimate:
    return failure_rate_corrected(flagged, n, caught, failures, cleared, oks, level=0.8)


@pytest.mark.parametrize(
    ("rate", "sens", "spec", "design"),
    [
        (1e-3, 0.9, 0.9995, (4000, 30, 2000)),
        (0.0, 0.9, 0.99, (300, 40, 200)),
        (1e-4, 0.8, 1.0, (9000, 20, 900)),
    ],
)
def test_coverage(rate: float, sens: float, spec: float, design: tuple[int, int, int]) -> None:
    rng, rounds, covered = np.random.default_rng(4), 150, 0
    n, failures, oks = design
    for _ in range(rounds):
        drawn = rng.binomial((n, failures, oks), (rate * sens + (1 - rate) * (1 - spec), sens, spec))
        found = cached(int(drawn[0]), n, int(drawn[1]), failures, int(drawn[2]), oks)
        covered += found.contains(rate)
    assert covered / rounds >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / rounds)
