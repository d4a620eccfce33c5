"""Weighted Poisson counts: a published table, exactness at equal weights, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from fivenines.errors import ConfigError, DataError
from fivenines.stats import failure_rate_weighted
from fivenines.stats.poisson import failure_rate_poisson, gamma_bounds


def test_the_worked_example_of_the_paper() -> None:
    """Down's syndrome in Michigan, birth order 5 and above: Fay and Feuer 1997, Table II; the digits are those of
    R's dsrTest 0.2.1, vignette "dsrTest - examples", gamma method."""
    cases = np.array([0, 8, 63, 112, 262, 295])
    births = np.array([327, 30666, 123419, 149919, 104088, 34392])
    standard = np.array([319933, 931318, 786511, 488235, 237863, 61313])
    weights = 1e5 * standard / (births * standard.sum())
    low, high = gamma_bounds(cases, weights, float(weights.max()), 0.025)
    assert float(weights @ cases) == pytest.approx(75.52901, abs=5e-6)
    assert low == pytest.approx(67.70212, abs=5e-6)
    assert high == pytest.approx(188.30017, abs=5e-6)


@pytest.mark.parametrize("failures", [0, 1, 5, 60])
def test_equal_weights_give_the_exact_poisson_interval(failures: int) -> None:
    low, high = gamma_bounds([failures], [0.25], 0.25, 0.025)
    above = float(stats.chi2.ppf(0.975, 2 * failures + 2)) / 2
    below = float(stats.chi2.ppf(0.025, 2 * failures)) / 2 if failures else 0.0
    assert high == pytest.approx(0.25 * above, rel=1e-9)
    assert low == pytest.approx(0.25 * below, rel=1e-9)


def test_agrees_with_a_slow_implementation() -> None:
    """The bounds as roots of the gamma distribution's integral instead of its inverse."""
    rng = np.random.default_rng(2)
    weights = rng.uniform(0.1, 3.0, 200)
    failed = rng.random(200) < 0.05
    found = failure_rate_poisson(failed, weights, 4.0)
    share, largest = weights[failed] / weights.sum(), 4.0 / weights.sum()
    y, v = share.sum(), (share**2).sum()
    above, spread = y + largest, v + largest**2
    low = optimize.brentq(lambda t: stats.gamma.cdf(t, y * y / v, scale=v / y) - 0.025, 1e-9, 1.0, xtol=1e-15)
    high = optimize.brentq(
        lambda t: stats.gamma.sf(t, above**2 / spread, scale=spread / above) - 0.025, 1e-9, 1.0, xtol=1e-15
    )
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.point == pytest.approx(y, rel=1e-12)


def test_no_failure_is_no_rate_of_zero_and_the_point_is_inside() -> None:
    found = failure_rate_poisson([0] * 1000, np.ones(1000), 5.0)
    assert found.point == found.low == 0.0
    assert found.high == pytest.approx(5.0 * -math.log(0.025) / 1000, rel=1e-9)
    assert found.approximate
    assert "(about 95%" in found.line
    seen = failure_rate_poisson([1, *[0] * 999], np.ones(1000), 5.0)
    assert seen.low < seen.point < seen.high


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_weights_does_not_matter(scale: float) -> None:
    failed, weights = [1, 1, 0, 0, 0, 0, 0, 0], np.array([1.0, 3.0, 1.0, 2.0, 2.0, 5.0, 1.0, 1.0])
    found, other = (failure_rate_poisson(failed, weights * by, 5.0 * by) for by in (1.0, scale))
    assert (other.low, other.high) == pytest.approx((found.low, found.high), rel=1e-12)


def test_narrower_than_betting_with_some_failures() -> None:
    rng = np.random.default_rng(0)
    weights, failed = rng.uniform(0.1, 3.0, 3000), rng.random(3000) < 0.02
    gamma, bets = failure_rate_poisson(failed, weights, 3.0), failure_rate_weighted(failed, weights, 3.0)
    assert gamma.high - gamma.low < bets.high - bets.low


def test_no_data_is_full_width() -> None:
    found = failure_rate_poisson([], [], 1.0)
    assert math.isnan(found.point)
    assert (found.low, found.high) == (0.0, 1.0)


def test_refuses() -> None:
    with pytest.raises(DataError, match="weights must not exceed weight_bound = 2, got 3"):
        failure_rate_poisson([0, 1], [1.0, 3.0], 2.0)
    with pytest.raises(DataError, match="weight_bound must be finite and positive, got nan"):
        failure_rate_poisson([0, 1], [1.0, 1.0], math.nan)
    with pytest.raises(DataError, match="weights must be finite"):
        failure_rate_poisson([0, 1], [1.0, math.inf], 2.0)
    with pytest.raises(DataError, match="failed must be 0 or 1"):
        failure_rate_poisson([0, 2], [1.0, 1.0], 2.0)
    with pytest.raises(ConfigError, match=r"Write 0\.95"):
        failure_rate_poisson([0, 1], [1.0, 1.0], 2.0, 95)


def test_coverage_with_weights_over_three_orders() -> None:
    rng = np.random.default_rng(9)
    strata = np.array([0.01, 0.1, 1.0, 10.0])
    rates = np.array([0.3, 0.03, 0.003, 0.001])
    drawn = np.array([0.4, 0.3, 0.2, 0.1])
    truth, rounds, covered = float((drawn * strata * rates).sum() / (drawn * strata).sum()), 400, 0
    for _ in range(rounds):
        which = rng.choice(4, 2000, p=drawn)
        covered += failure_rate_poisson(rng.random(2000) < rates[which], strata[which], 10.0).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
