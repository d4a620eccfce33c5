"""Exact shares: golden numbers, properties, an independent slow implementation, exact coverage."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from fivenines.errors import ConfigError, DataError
from fivenines.stats import (
    Estimate,
    binomial_p_value,
    failure_rate_exact,
    sample_size_exact,
    share_exact,
    zero_failure_sample_size,
)
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.estimate import percent_text, rounded_outwards

COUNTS = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# --- golden numbers


def test_reads_as_promised() -> None:
    found = failure_rate_exact(failures=3, n=100_000)
    assert found.line == (
        "failure rate 3.0e-05 (95%: 6.1e-06 to 8.8e-05, exact binomial, n = 100,000): at least 4.0 nines"
    )
    assert str(found).splitlines() == [found.line, *(f"  assumes: {each}" for each in found.assumptions)]


def test_what_trusts_the_classifier_says_so_in_its_one_line() -> None:
    trusting = replace(
        failure_rate_exact(3, 100_000), approximate=True, trusts="the classifier's scores are calibrated"
    )
    assert "(about 95% if the classifier's scores are calibrated: " in trusting.line
    assert trusting.line.endswith("at least about 4.0 nines if the classifier's scores are calibrated")
    assert Estimate.from_dict(trusting.to_dict()) == trusting


def test_no_failure_is_not_a_rate_of_zero() -> None:
    found = failure_rate_exact(0, 100_000)
    assert str(found).startswith("failure rate 0 (95%: 0 to 3.7e-05")
    assert found.nines == 4.4
    assert found.high == pytest.approx(-math.expm1(math.log(0.025) / 100_000), rel=1e-12)


@pytest.mark.parametrize(("rate", "n"), [(1e-3, 2_995), (1e-4, 29_956), (3e-5, 99_857), (1e-5, 299_572)])
def test_labels_without_a_failure_that_show_a_rate(rate: float, n: int) -> None:
    assert zero_failure_sample_size(rate) == n


@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (3, 100_000), (0, 100_000), (17, 40), (2400, 100_000), (1, 2)]
)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_statsmodels_agrees(k: int, n: int, level: float) -> None:
    found = failure_rate_exact(k, n, level)
    low, high = proportion_confint(k, n, alpha=1 - level, method="beta")
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


# --- an independent slow implementation


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 7), (7, 7), (5, 300), (3, 20_000), (299, 300)])
def test_bounds_are_the_roots_of_the_binomial_tails(k: int, n: int) -> None:
    found = failure_rate_exact(k, n)
    if k > 0:
        low = optimize.brentq(
            lambda p: scipy_stats.binom.sf(k - 1, n, p) - 0.025, 1e-12, 1 - 1e-12, xtol=1e-15
        )
        assert found.low == pytest.approx(low, rel=1e-8)
    if k < n:
        high = optimize.brentq(lambda p: scipy_stats.binom.cdf(k, n, p) - 0.025, 1e-12, 1 - 1e-12, xtol=1e-15)
        assert found.high == pytest.approx(high, rel=1e-8)


@given(COUNTS, st.floats(1e-6, 0.999))
def test_p_value_is_the_lower_tail(counts: tuple[int, int], rate: float) -> None:
    k, n = counts
    expected = scipy_stats.binom.cdf(k, n, rate)
    assert binomial_p_value(k, n, rate) == pytest.approx(expected, rel=1e-7, abs=1e-200)


@given(st.integers(0, 30), st.floats(1e-4, 0.5), st.floats(0.5, 0.999))
def test_sample_size_is_the_smallest_that_suffices(misses: int, rate: float, confidence: float) -> None:
    n = sample_size_exact(misses, rate, confidence)
    assert binomial_p_value(misses, n, rate) <= 1 - confidence
    assert n == misses + 1 or binomial_p_value(misses, n - 1, rate) > 1 - confidence


# --- properties


@given(COUNTS, st.floats(0.01, 0.999))
def test_the_point_lies_in_the_interval(counts: tuple[int, int], level: float) -> None:
    found = failure_rate_exact(*counts, level)
    assert 0.0 <= found.low <= found.point <= found.high <= 1.0
    assert found.high > found.low


@given(COUNTS)
def test_more_failures_never_lower_a_bound(counts: tuple[int, int]) -> None:
    k, n = counts
    one, more = failure_rate_exact(k, n), failure_rate_exact(min(k + 1, n), n)
    assert one.low <= more.low
    assert one.high <= more.high


@given(COUNTS, st.integers(2, 5))
def test_more_items_narrow_the_interval(counts: tuple[int, int], times: int) -> None:
    k, n = counts
    few, many = failure_rate_exact(k, n), failure_rate_exact(k * times, n * times)
    assert many.high - many.low < few.high - few.low


@given(COUNTS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_higher_level_gives_a_wider_interval(counts: tuple[int, int], one: float, other: float) -> None:
    narrow, wide = (failure_rate_exact(*counts, level) for level in sorted((one, other)))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(COUNTS)
def test_halves_lie_between_their_neighbours(counts: tuple[int, int]) -> None:
    k, n = counts
    if k < n:
        below, half, above = (clopper_pearson(value, n, 0.025) for value in (k, k + 0.5, k + 1))
        assert below[0] <= half[0] <= above[0]
        assert below[1] <= half[1] <= above[1]


@pytest.mark.parametrize(("n", "rate"), [(20, 0.3), (1000, 1e-3), (100_000, 1e-5), (5, 0.5)])
def test_coverage_summed_over_all_counts(n: int, rate: float) -> None:
    """No simulation needed: the coverage is a finite sum."""
    top = int(scipy_stats.binom.ppf(1 - 1e-12, n, rate))
    covered = sum(
        scipy_stats.binom.pmf(k, n, rate) for k in range(top + 1) if failure_rate_exact(k, n).contains(rate)
    )
    assert covered >= 0.95 - 1e-9


# --- no data, broken data, the object


def test_no_data_says_nothing() -> None:
    found = failure_rate_exact(0, 0)
    assert (found.low, found.high, found.nines) == (0.0, 1.0, 0.0)
    assert math.isnan(found.point)
    assert str(found).startswith("failure rate unknown (95%: 0 to 1,")


@pytest.mark.parametrize(
    ("failures", "n", "message"),
    [
        (4, 3, "failures must not exceed the 3 items, got 4"),
        (-1, 3, "failures must not be negative, got -1"),
        (1, -3, "n must not be negative, got -3"),
        (math.nan, 3, "failures must be a whole number, got nan"),
        (1.5, 3, r"failures must be a whole number, got 1\.5"),
    ],
)
def test_counts_that_cannot_be_are_refused(failures: int, n: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_exact(failures, n)


@pytest.mark.parametrize("level", [95, 0.0, 1.0, math.nan, -1])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match=r"level must lie strictly between 0 and 1.*Write 0\.95, not 95"):
        failure_rate_exact(1, 3, level)


@pytest.mark.parametrize(
    "estimate", [failure_rate_exact(3, 1000), failure_rate_exact(0, 0), share_exact(2, 5)]
)
def test_survives_json(estimate: Estimate) -> None:
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict(), allow_nan=False))) == estimate


def test_infinite_bounds_survive_json() -> None:
    estimate = Estimate(1.0, 0.5, math.inf, 0.95, 3, "betting", what="ratio")
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict(), allow_nan=False))) == estimate


def test_from_dict_names_the_missing_key() -> None:
    with pytest.raises(DataError, match="estimate must have the key 'low'"):
        Estimate.from_dict({"point": 0.1})


def test_only_failure_rates_have_nines_in_words() -> None:
    assert "nines" not in str(share_exact(24, 1000, what="acceptance"))
    assert "nines" in str(failure_rate_exact(24, 1000, what="filtered failure rate"))


@given(st.floats(1e-12, 1.0))
def test_nines_are_rounded_down(high: float) -> None:
    nines = Estimate(0.0, 0.0, high, 0.95, 10, "x").nines
    assert 10**-nines >= high * (1 - 1e-12)
    assert 10 ** -(nines + 0.1) <= high * (1 + 1e-9)


def test_where_nothing_bounds_a_rate_there_are_no_nines() -> None:
    assert Estimate(math.nan, 0.0, math.inf, 0.95, 0, "x").nines == 0.0


def test_every_estimate_carries_what_it_rests_on() -> None:
    assert "the labels are right" in failure_rate_exact(3, 10).assumptions
    named = failure_rate_exact(3, 10).named("unfiltered failure rate", "one more")
    assert named.what == "unfiltered failure rate"
    assert named.assumptions[-1] == "one more"


def test_numpy_counts_are_counts() -> None:
    assert failure_rate_exact(np.int64(3), np.int32(10)) == failure_rate_exact(3, 10)


# --- what is printed


@given(st.floats(-1.0, 1.0, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-300))
def test_a_printed_end_is_a_bound_too(value: float) -> None:
    for digits in (None, 2, 3):
        low, high = (rounded_outwards(value, up=up, digits=digits) for up in (False, True))
        assert low - 1e-11 * abs(value) <= value <= high + 1e-11 * abs(value)
        assert abs(high - low) <= 0.11 * abs(value)
        assert high == 1.0 if value == 1.0 else high < 1.0 or value > 1 - 1e-11


def test_ends_are_rounded_outwards_and_no_level_reads_100() -> None:
    assert "(95%: 0 to 1.1e-04, exact" in failure_rate_exact(0, 35_136).line  # 1.0498e-4
    assert rounded_outwards(0.05, up=True) == rounded_outwards(0.05, up=False) == 0.05
    assert rounded_outwards(0.1 + 0.2, up=True) == 0.3  # what a float lost is no part of it
    assert rounded_outwards(0.99996, up=True) == 0.99996
    assert rounded_outwards(0.99996, up=False) == 0.999
    assert rounded_outwards(math.inf, up=True) == math.inf
    assert [percent_text(level) for level in (0.95, 0.975, 0.99999999)] == ["95", "97.5", "99.999999"]


@pytest.mark.parametrize("level", ["0.95", None, [0.95], True])
def test_a_level_that_is_no_number_is_refused(level: object) -> None:
    with pytest.raises(ConfigError, match="level must be a number"):
        failure_rate_exact(0, 10, level)  # type: ignore[arg-type]


def test_what_nobody_counts_is_refused() -> None:
    with pytest.raises(DataError, match=r"n must be at most 1e\+15"):
        failure_rate_exact(0, 10**18)
    with pytest.raises(ConfigError, match="max_rate must be at least 1e-12"):
        zero_failure_sample_size(5e-324)
