"""The cost of attacks: golden numbers, independent implementations, properties, exact and simulated coverage."""

from __future__ import annotations

import json
import math
import time
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.rates import confint_poisson

from fivenines.errors import ConfigError, DataError
from fivenines.stats import Estimate
from fivenines.stats.attack_cost import (
    attack_cost_exact,
    attack_cost_ratio_exact,
    attack_rate_exact,
    attempt_totals,
    successes_needed,
)

COUNTS = st.integers(0, 2_000)
EXPOSURES = st.floats(1e-3, 1e9)
LEVELS = st.floats(0.01, 0.999)


# --- golden numbers


@pytest.mark.parametrize(
    ("k", "exposure", "level", "low", "high", "rel"),
    [
        # R, exactci::poisson.exact(15, 400, tsmethod="central") and DescTools::PoissonCI(15, 400, "exact"),
        # as quoted in statsmodels' test_rate_poisson_r
        (15, 400, 0.95, 0.0209884653319583, 0.0618505471787146, 1e-12),
        # GraphPad, "How QuickCalcs computes the confidence interval of a count" (Garwood's method)
        (25, 1, 0.90, 17.38, 34.92, 5e-4),
        (25, 1, 0.95, 16.18, 36.90, 5e-4),
        (25, 1, 0.99, 14.00, 41.00, 5e-4),
        # StatsDirect, help on the Poisson rate confidence interval
        (14, 400, 0.95, 0.019135, 0.058724, 5e-5),
        # R, epitools: "when x = 0, for the upper confidence limit pois.exact returns 3.689"
        (0, 1, 0.95, 0.0, 3.689, 1e-4),
    ],
)
def test_published_rates(k: int, exposure: float, level: float, low: float, high: float, rel: float) -> None:
    found = attack_rate_exact(k, exposure, level)
    assert (found.low, found.high) == pytest.approx((low, high), rel=rel)


def test_published_ratio() -> None:
    """R, exactci::poisson.exact(c(60, 30), c(51477.5, 54308.7)), central, as quoted in statsmodels' tests."""
    found = attack_cost_ratio_exact(60, 51477.5, 30, 54308.7)
    assert found.point == pytest.approx(2.10999757175465, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((1.339735721772650, 3.388365573616252), rel=1e-12)


@pytest.mark.parametrize(("k", "exposure"), [(0, 10.0), (1, 0.5), (7, 1e6), (400, 3.0), (20_000, 1e-3)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_statsmodels_agrees(k: int, exposure: float, level: float) -> None:
    found = attack_rate_exact(k, exposure, level)
    low, high = confint_poisson(k, exposure, method="exact-c", alpha=1 - level)  # type: ignore[no-untyped-call]
    assert (found.low, found.high) == pytest.approx((0.0 if k == 0 else low, high), rel=1e-9)


def test_sixteen_each_is_where_normal_theory_sees_a_doubling() -> None:
    """1.96 sqrt(1/16 + 1/16) = log 2; the exact interval still holds 1, and half the power takes 19 a side."""
    found = attack_cost_ratio_exact(16, 1.0, 16, 2.0)
    assert found.point == 2.0
    assert 0.9 < found.low < 1.0
    assert successes_needed(2, power=0.5) == 19


@pytest.mark.parametrize("level", [0.01, 0.1, 0.5])
def test_the_point_is_inside_at_low_levels_too(level: float) -> None:
    for stopped in (False, True):
        found = attack_cost_exact(1, 100, level, stopped_at_success=stopped)
        assert found.low <= found.point <= found.high


def test_reads_as_it_should() -> None:
    assert attack_cost_exact(4, 104, unit="human minute").line == (
        "human minutes per confirmed success 26.0 (95% if successes come at one constant rate: 10.1 to 95.5, exact "
        "Poisson over 104 human minutes, n = 4)"
    )
    assert attack_rate_exact(1, 2.5, unit="day", stopped_at_success=True).line == (
        "confirmed successes per day 0.400 (95% if successes come at one constant rate: 0.0101 to 1.48, exact "
        "Poisson over 2.5 days, stopped at a success, n = 1)"
    )
    for found in (attack_rate_exact(3, 10), attack_cost_exact(3, 10), attack_cost_ratio_exact(3, 1, 4, 1)):
        assert not found.approximate
        assert found.trusts == "successes come at one constant rate"
        assert not found.is_failure_rate
        assert Estimate.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


# --- independent slow implementations


@pytest.mark.parametrize("k", [0, 1, 2, 9, 150])
def test_bounds_are_the_roots_of_the_poisson_tails(k: int) -> None:
    found = attack_rate_exact(k, 8.0)
    high = optimize.brentq(lambda r: scipy_stats.poisson.cdf(k, 8 * r) - 0.025, 1e-12, 1e3, xtol=1e-15)
    assert found.high == pytest.approx(high, rel=1e-9)
    if k:
        low = optimize.brentq(lambda r: scipy_stats.poisson.sf(k - 1, 8 * r) - 0.025, 1e-12, 1e3, xtol=1e-15)
        assert found.low == pytest.approx(low, rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 9, 150])
def test_bounds_of_inverse_sampling_are_the_roots_of_the_gamma_tails(k: int) -> None:
    """The exposure at the k-th success is gamma: P(T <= 8) and P(T >= 8) at the two ends are 2.5% each."""
    found = attack_rate_exact(k, 8.0, stopped_at_success=True)
    assert scipy_stats.gamma.cdf(8.0, k, scale=1 / found.low) == pytest.approx(0.025, rel=1e-9)
    assert scipy_stats.gamma.sf(8.0, k, scale=1 / found.high) == pytest.approx(0.025, rel=1e-9)


@pytest.mark.parametrize(("before", "after"), [(3, 5), (0, 4), (4, 0), (40, 13), (1, 1)])
def test_ratio_bounds_are_the_roots_of_the_binomial_tails(before: int, after: int) -> None:
    found = attack_cost_ratio_exact(before, 70.0, after, 20.0, 0.9)

    def tail(ratio: float, upper: bool) -> float:
        share = 70.0 * ratio / (70.0 * ratio + 20.0)
        n = before + after
        at_least = scipy_stats.binom.sf(before - 1, n, share)
        return float(at_least if upper else scipy_stats.binom.cdf(before, n, share)) - 0.05

    low = optimize.brentq(lambda r: tail(r, True), 1e-9, 1e6, xtol=1e-14) if before else 0.0
    high = optimize.brentq(lambda r: tail(r, False), 1e-9, 1e6, xtol=1e-14) if after else math.inf
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def _shown(k: int, ratio: float, level: float) -> float:
    """P(the interval says "dearer") with 2k successes, expected half and half: summed over the outcomes."""
    weights = scipy_stats.binom.pmf(np.arange(2 * k + 1), 2 * k, 0.5)
    lows = [attack_cost_ratio_exact(b, 1.0, 2 * k - b, ratio, level).low for b in range(2 * k + 1)]
    return float(weights @ (np.array(lows) > 1.0))


@pytest.mark.parametrize(
    ("ratio", "level", "power"), [(2.0, 0.95, 0.8), (3.0, 0.9, 0.5), (6.0, 0.99, 0.95), (1e4, 0.8, 0.7)]
)
def test_successes_needed_by_enumeration(ratio: float, level: float, power: float) -> None:
    k = successes_needed(ratio, level, power)
    assert all(_shown(more, ratio, level) >= power for more in range(k, k + 12))
    assert k == 1 or _shown(k - 1, ratio, level) < power


# --- properties


@given(COUNTS, EXPOSURES, LEVELS, st.booleans())
def test_cost_is_the_inverse_of_the_rate(k: int, exposure: float, level: float, stopped: bool) -> None:
    stopped = stopped and k > 0
    rate = attack_rate_exact(k, exposure, level, stopped_at_success=stopped)
    cost = attack_cost_exact(k, exposure, level, stopped_at_success=stopped)
    if (
        not stopped
    ):  # the exact interval of inverse sampling may, at a low level, lie beside the skewed law's mean
        assert rate.low <= rate.point <= rate.high
    assert cost.n == rate.n == k
    assert cost.low * rate.high == pytest.approx(1.0)
    if k:
        assert cost.high * rate.low == pytest.approx(1.0)
        assert cost.point * rate.point == pytest.approx(1.0)
    else:
        assert cost.high == math.inf
        assert math.isnan(cost.point)
        assert (rate.low, rate.point) == (0.0, 0.0)
        assert rate.high > 0.0


@given(st.integers(1, 2_000), EXPOSURES, LEVELS)
def test_inverse_sampling_lies_within_the_default(k: int, exposure: float, level: float) -> None:
    wide, narrow = (attack_rate_exact(k, exposure, level, stopped_at_success=stop) for stop in (False, True))
    assert wide.low == narrow.low
    assert narrow.high < wide.high


@given(COUNTS, COUNTS, EXPOSURES, EXPOSURES, LEVELS)
def test_a_ratio_turns_with_its_sides(b: int, a: int, spent_b: float, spent_a: float, level: float) -> None:
    found = attack_cost_ratio_exact(b, spent_b, a, spent_a, level)
    turned = attack_cost_ratio_exact(a, spent_a, b, spent_b, level)
    assert found.low == pytest.approx(0.0 if turned.high == math.inf else 1 / turned.high, rel=1e-9)
    assert (found.low == 0.0, found.high == math.inf) == (b == 0, a == 0)
    if a:
        costs = attack_cost_exact(b, spent_b).point, attack_cost_exact(a, spent_a).point
        assert found.low <= found.point <= found.high
        assert b == 0 or found.point == pytest.approx(costs[1] / costs[0])
    else:
        assert math.isnan(found.point)


@given(COUNTS, EXPOSURES, st.floats(1e-3, 1e3))
def test_the_unit_only_rescales(k: int, exposure: float, factor: float) -> None:
    one, other = attack_rate_exact(k, exposure), attack_rate_exact(k, exposure * factor)
    assert (one.low, one.high) == pytest.approx((other.low * factor, other.high * factor), rel=1e-9)


@settings(max_examples=40)
@given(st.floats(1.3, 50.0), st.floats(0.5, 0.99), st.floats(0.1, 0.95))
def test_successes_needed_goes_the_right_way(ratio: float, level: float, power: float) -> None:
    needed = successes_needed(ratio, level, power)
    assert successes_needed(1 / ratio, level, power) == needed
    assert successes_needed(2 * ratio, level, power) <= needed
    assert successes_needed(ratio, level, (1 + power) / 2) >= needed


@pytest.mark.parametrize(("before", "after"), [(3, 12), (15, 15), (2, 2), (400, 9)])
def test_too_few_successes_are_said_and_what_they_can_show(before: int, after: int) -> None:
    found = attack_cost_ratio_exact(before, 1.0, after, 1.0)
    note = found.assumptions[0]
    assert note.startswith(
        f"fewer than 16 successes on a side ({before} before, {after} after): too few to show"
    )
    least = float(note.split("a ratio below ")[1].split(" ")[0])
    longer = least / found.point  # the exposure after at which the point is just that ratio
    assert attack_cost_ratio_exact(before, 1.0, after, 0.98 * longer).low < 1.0
    assert attack_cost_ratio_exact(before, 1.0, after, 1.02 * longer).low > 1.0


def test_enough_successes_carry_no_note() -> None:
    assert not any("too few" in each for each in attack_cost_ratio_exact(16, 1.0, 16, 1.0).assumptions)
    none_after = attack_cost_ratio_exact(5, 1.0, 0, 1.0).assumptions[0]
    assert none_after.endswith("(5 before, 0 after): too few to show a doubling")


# --- coverage


@pytest.mark.parametrize("mean", [0.05, 0.7, 3.6, 3.75, 12.0])
def test_coverage_of_a_fixed_exposure_summed_over_all_counts(mean: float) -> None:
    covered = sum(
        scipy_stats.poisson.pmf(k, mean) for k in range(80) if attack_rate_exact(k, 1e5).contains(mean / 1e5)
    )
    assert covered >= 0.95 - 1e-9


@pytest.mark.parametrize(("before", "after", "ratio"), [(1.5, 0.8, 1.0), (4.0, 4.0, 2.0), (16.0, 16.0, 2.0)])
def test_coverage_of_a_ratio_summed_over_all_counts(before: float, after: float, ratio: float) -> None:
    spent = ratio * after / before  # at exposure 1 before
    top = 45
    p, q = (scipy_stats.poisson.pmf(np.arange(top), mean) for mean in (before, after))
    missed = sum(
        p[b] * q[a]
        for b in range(top)
        for a in range(top)
        if p[b] * q[a] > 1e-7 and not attack_cost_ratio_exact(b, 1.0, a, spent).contains(ratio)
    )
    assert missed <= 0.05


@pytest.mark.parametrize("k", [1, 4])
def test_coverage_of_inverse_sampling_is_the_level(k: int) -> None:
    rng = np.random.default_rng(20260729)
    covered = np.mean(
        [
            attack_cost_exact(k, spent, 0.9, stopped_at_success=True).contains(50.0)
            for spent in rng.gamma(k, 50.0, size=4_000)
        ]
    )
    assert abs(covered - 0.9) <= 4 * math.sqrt(0.9 * 0.1 / 4_000)


@pytest.mark.parametrize(("n", "limit"), [(30, 20), (10, 200), (3, 1_500), (1, 3_000)])
def test_coverage_where_attempts_end_at_a_success_or_a_limit(n: int, limit: int) -> None:
    rng = np.random.default_rng(20260729)
    first = rng.geometric(1e-3, size=(2_000, n))
    pairs = zip((first <= limit).sum(axis=1), np.minimum(first, limit).sum(axis=1), strict=True)
    covered = np.mean([attack_rate_exact(k, spent).contains(1e-3) for k, spent in pairs])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2_000)


# --- attempts


def test_fooled_is_no_success_and_every_attempt_costs() -> None:
    totals = attempt_totals(
        [10, 4.5, 30, 30], [True, False, False, False], [1, 1, 0, 1], fooled=[True, True, False, True]
    )
    assert astuple(totals) == (4, 1, 1, 2, 74.5)
    assert attack_cost_exact(totals.successes, totals.exposure).point == 74.5
    assert astuple(attempt_totals([], [], [])) == (0, 0, 0, 0, 0.0)


def test_a_million_attempts_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    spent, confirmed = rng.exponential(size=1_000_000), rng.random(1_000_000) < 1e-4
    start = time.process_time()
    totals = attempt_totals(spent, confirmed, np.ones(1_000_000, dtype=bool))
    attack_cost_exact(totals.successes, totals.exposure)
    assert time.process_time() - start < 2.0
    assert totals.successes == confirmed.sum()


@pytest.mark.parametrize(
    ("exposure", "confirmed", "finished", "fooled", "message"),
    [
        ([1, -2], [0, 0], [1, 1], None, r"exposure must not be negative, got -2\.0"),
        ([1, math.nan], [0, 0], [1, 1], None, "exposure must be finite, got nan"),
        ([1, math.inf], [0, 1], [1, 1], None, "exposure must be finite, got inf"),
        ([1, 2], [0, 2], [1, 1], None, "confirmed must be 0 or 1, or booleans, got 2"),
        ([1, 2], [0], [1, 1], None, "confirmed must have one value for each of the 2 items, got 1"),
        ([1, 2], [0, 1], [1], None, "finished must have one value for each of the 2 items, got 1"),
        (
            [1, 0],
            [0, 1],
            [1, 1],
            None,
            "confirmed must not be set on an attempt without exposure, got it on attempt 1",
        ),
        (
            [1, 2],
            [1, 0],
            [0, 1],
            None,
            "confirmed must not be set on an attempt that was given up, got it on attempt 0",
        ),
        (
            [1, 2],
            [1, 0],
            [1, 1],
            [0, 1],
            "confirmed must not be set on an attempt that did not fool the classifier",
        ),
        ([1, 2], [1, 0], [1, 1], [1, 3], "fooled must be 0 or 1, or booleans, got 3"),
    ],
)
def test_attempts_that_cannot_be_are_refused(
    exposure: list[float], confirmed: list[int], finished: list[int], fooled: list[int] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        attempt_totals(exposure, confirmed, finished, fooled=fooled)


# --- no data, broken data


def test_no_data_says_nothing() -> None:
    rate, cost = attack_rate_exact(0, 0), attack_cost_exact(0, 0)
    nothing = attack_cost_ratio_exact(0, 0, 3, 10)
    for found in (rate, cost, nothing, attack_cost_ratio_exact(0, 5, 0, 5)):
        assert (found.low, found.high) == (0.0, math.inf)
        assert math.isnan(found.point)
        assert Estimate.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))).high == math.inf


@pytest.mark.parametrize(
    ("k", "exposure", "message"),
    [
        (1.5, 10, r"successes must be a whole number, got 1\.5"),
        (math.nan, 10, "successes must be a whole number, got nan"),
        (-1, 10, "successes must not be negative, got -1"),
        (1, math.nan, "exposure must be finite and not negative, got nan"),
        (1, math.inf, "exposure must be finite and not negative, got inf"),
        (1, -3, r"exposure must be finite and not negative, got -3\.0"),
        (1, "many", "exposure must be a number, got many"),
        (2, 0, r"exposure must be positive where successes is 2, got 0\.0"),
    ],
)
def test_counts_and_exposures_that_cannot_be_are_refused(k: int, exposure: float, message: str) -> None:
    for estimate in (attack_rate_exact, attack_cost_exact):
        with pytest.raises(DataError, match=message):
            estimate(k, exposure)
    with pytest.raises(
        DataError, match=message.replace("exposure", "exposure_after").replace("successes", "successes_after")
    ):
        attack_cost_ratio_exact(1, 1, k, exposure)


def test_work_that_stopped_at_a_success_has_one() -> None:
    with pytest.raises(
        DataError, match="successes must be 1 or more when the work stopped at a success, got 0"
    ):
        attack_rate_exact(0, 10, stopped_at_success=True)


@pytest.mark.parametrize("level", [95, 0.0, 1.0, math.nan, -1])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    for call in (
        lambda: attack_rate_exact(1, 3, level),
        lambda: attack_cost_exact(1, 3, level),
        lambda: attack_cost_ratio_exact(1, 3, 1, 3, level),
        lambda: successes_needed(2, level),
    ):
        with pytest.raises(
            ConfigError, match=r"level must lie strictly between 0 and 1.*Write 0\.95, not 95"
        ):
            call()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="unit must name one unit of exposure"):
        attack_rate_exact(1, 3, unit=" ")
    with pytest.raises(ConfigError, match="power must lie strictly between 0 and 1, got 80"):
        successes_needed(2, power=80)
    for ratio in (0.0, -2.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="ratio must be positive and finite"):
            successes_needed(ratio)
    with pytest.raises(ConfigError, match=r"ratio must differ from 1 by a hundredth at least, got 1\.0"):
        successes_needed(1.0)
