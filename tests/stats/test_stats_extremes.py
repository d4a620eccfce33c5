"""Forecasts beyond the scores seen: right where the tail is what they trust, and never to be mistaken for a bound."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, special, stats
from statsmodels.stats.proportion import proportion_confint

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import extremes as module
from fivenines.stats.extremes import (
    LEAST_TOP,
    failure_forecast,
    forecast_error,
    largest_forecast,
    pareto_fit,
)

# set.seed(123); rexp(100) in R, as kept in HAMdetector/Loo.jl, test/data/rloo_gpdfit_x.csv
REXP = [
    0.8434572610584022, 0.5766102708876133, 1.3290548678067449, 0.03157735910831193, 0.05621097609400749,
    0.3165012163777098, 0.3142272922152972, 0.14526680391281843, 2.726236464329696, 0.029153447082572552,
    1.0048300576907518, 0.4802147276597736, 0.28101362753659487, 0.37711783106713365, 0.18828404089435935,
    0.8497861297381045, 1.5632035396152977, 0.4787604163365551, 0.5909348353743553, 4.041011711372496,
    0.8431497311337739, 0.9658712110993387, 1.4852757940180714, 1.348044485743058, 1.1685289842587832,
    1.6058523430580143, 1.4967428687119726, 1.5706525468952257, 0.03176774396147595, 0.5978496912866831,
    2.167839745478155, 0.5066157286055386, 0.2595578173300723, 2.5968921164653067, 1.229025731752527,
    0.7906817588535072, 0.6292800777591765, 1.254641002947838, 0.5886846422217786, 1.1292900338491243,
    0.4203648027032614, 7.211007576015713, 0.845721965197537, 0.2255420065484941, 1.1003388175320747,
    2.248305692325016, 1.3637342992749932, 0.5763916680589318, 2.725275849797464, 1.3121630426015196,
    0.09059135011964779, 0.3062038500793278, 1.0672130696055415, 0.3135162559337914, 0.974640150512469,
    1.887823315253282, 0.5645886026322842, 2.5769613290807967, 1.0476957479313038, 1.024441341827524,
    1.0278696156431382, 0.28466846068690266, 1.5630518886351827, 0.04208829297160012, 0.09863088980339339,
    0.09856931213289499, 0.28038516130058566, 0.2957869586534798, 0.9724296489310386, 0.9240272240293147,
    1.6424045267221232, 1.619912767698789, 2.536145539828277, 1.5215496233755592, 0.38001420302316546,
    0.23851296678185463, 0.46648742356240624, 0.04227145155891776, 0.3196768993511796, 0.643610920291394,
    0.5725631034001708, 0.21605550254207867, 4.49867339779563, 1.857090553184772, 0.6854586377739906,
    1.4394526261447416, 1.7311539835518224, 1.2447832999330881, 1.463300560042621, 1.5373939785338644,
    0.004599126521497965, 1.1087654679593566, 0.2999703176319599, 1.1920030070048693, 1.1149287037131312,
    0.06737589091062546, 0.4806687207892537, 1.5704543390217416, 0.2599461069330573, 1.8569222874099258,
]  # fmt: skip


def enough(covered: int, rounds: int, level: float = 0.95) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


# --- the generalized Pareto fit


def test_pareto_fit_gives_the_values_of_the_r_package_loo() -> None:
    """stan-dev/loo: tests/testthat/test_gpdfit.R of versions 0.1 and 2; the second as HAMdetector/Loo.jl keeps it."""
    shape, scale = pareto_fit(REXP)
    assert shape == pytest.approx(0.07036688, abs=5e-9)
    assert scale == pytest.approx(1.018298, abs=5e-7)
    shape, scale = pareto_fit(REXP, prior=0.0)  # before the prior; its grid had 80 + sqrt n points
    assert shape == pytest.approx(0.0274030348712631, abs=1e-6)
    assert scale == pytest.approx(1.01829821712701, abs=1e-6)


@pytest.mark.parametrize("shape", [-0.5, 0.0, 0.3, 1.0])
def test_pareto_fit_finds_what_scipy_drew(shape: float) -> None:
    drawn = stats.genpareto.rvs(shape, scale=2.0, size=20_000, random_state=np.random.default_rng(1))
    found = pareto_fit(drawn)
    assert found == pytest.approx((shape, 2.0), abs=0.06)


def test_pareto_fit_agrees_with_a_slow_implementation_and_scales() -> None:
    x = sorted(REXP[:37])
    m = 30 + int(math.sqrt(37))
    grid = [
        1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * x[int(37 / 4 + 0.5) - 1]) for j in range(1, m + 1)
    ]
    shapes = [sum(math.log(1 - b * v) for v in x) / 37 for b in grid]
    logs = [37 * (math.log(-b / k) - k - 1) for b, k in zip(grid, shapes, strict=True)]
    slope = sum(b / sum(math.exp(other - own) for other in logs) for b, own in zip(grid, logs, strict=True))
    shape = sum(math.log(1 - slope * v) for v in x) / 37
    assert pareto_fit(x, prior=0.0) == pytest.approx((shape, -shape / slope), rel=1e-9)
    wide = pareto_fit(np.array(x) * 1e6, prior=0.0)
    assert wide == pytest.approx((shape, -shape / slope * 1e6), rel=1e-9)


# --- the forecast


def slow_shares(scores: NDArray[Any], limit: float, k: int, straight: bool) -> list[float]:
    """Shares above the limit, draw by draw in plain Python, from the same pivots."""
    n, rng = scores.size, np.random.default_rng(0)
    depths, steps = -np.log(rng.beta(k + 1, n - k, 20_000)), rng.gamma(k, size=20_000)
    top = sorted(scores)[-k - 1 :]
    y = [value - top[0] for value in top[1:]]
    if straight:
        bends, masses = [0.0], [1.0]
    else:
        m = 30 + int(math.sqrt(k))
        quarter = y[int(k / 4 + 0.5) - 1]
        bends = [1 / y[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * quarter) for j in range(1, m + 1)]
        shapes = [sum(math.log(1 - b * v) for v in y) / k for b in bends]
        logs = [0.6 * k * (math.log(-b / s) - s - 1) for b, s in zip(bends, shapes, strict=True)]
        masses = [1 / sum(math.exp(other - own) for other in logs) for own in logs]
    shares, at, passed = [], 0, masses[0]
    for i in range(20_000):
        while passed < (i + 0.5) / 20_000 and at < len(masses) - 1:
            at += 1
            passed += masses[at]
        b, x = bends[at], limit - top[0]
        if b * x >= 1:
            shares.append(0.0)
            continue
        height = x / sum(y) if b == 0 else math.log(1 - b * x) / (k * shapes[at])
        shares.append(math.exp(-depths[i] - steps[i] * height))
    return sorted(shares)


@pytest.mark.parametrize("straight", [True, False])
def test_forecast_agrees_with_a_slow_implementation(straight: bool) -> None:
    scores = np.random.default_rng(2).logistic(size=400)
    found = failure_forecast(scores, 9.0, top=30, straight=straight, held_back=False)
    slow = slow_shares(scores, 9.0, 30, straight)
    point = slow[9_999] if straight else sum(slow) / len(slow)
    expected = (slow[499], point, slow[math.ceil(0.975 * 19_999)])
    assert (found.low, found.point, found.high) == pytest.approx(expected, rel=1e-9)


def test_straight_forecast_agrees_with_integration() -> None:
    """P(E + c G >= depth) by quadrature at the ends: 2.5%, 50% and 97.5%, but for the draws of the pivots."""
    scores, k, limit = np.random.default_rng(3).exponential(size=500), 40, 11.0
    found = failure_forecast(scores, limit, top=k, straight=True, held_back=False)
    top = np.sort(scores)[-k - 1 :]
    slope = (limit - top[0]) / (top[1:] - top[0]).sum()
    for share, probability in ((found.low, 0.025), (found.point, 0.5), (found.high, 0.975)):

        def below(g: float, depth: float = -math.log(share)) -> float:
            left = min(math.exp(-(depth - slope * g)), 1.0)
            return float(stats.gamma.pdf(g, k) * special.betainc(k + 1, 500 - k, left))

        total, _ = integrate.quad(below, 1.0, 120.0, limit=200)
        assert total == pytest.approx(
            probability, abs=4 * math.sqrt(probability * (1 - probability) / 20_000)
        )


def test_at_the_top_scores_the_straight_interval_is_the_exact_binomial() -> None:
    """There is nothing to extrapolate: Clopper and Pearson, by statsmodels."""
    scores = np.random.default_rng(4).gumbel(size=1000)
    start = float(np.sort(scores)[-51])
    found = failure_forecast(scores, start + 1e-12, top=50, straight=True, held_back=False)
    assert found.low == pytest.approx(proportion_confint(51, 1000, method="beta")[0], rel=0.02)
    assert found.high == pytest.approx(proportion_confint(50, 1000, method="beta")[1], rel=0.02)


@given(st.integers(0, 10_000), st.floats(0.1, 10.0), st.floats(-50, 50))
@settings(max_examples=15, deadline=None)
def test_scale_and_place_of_the_scores_do_not_matter(seed: int, scale: float, shift: float) -> None:
    scores = np.random.default_rng(seed).logistic(size=200)
    limit = float(scores.max()) + 1.0
    one = failure_forecast(scores, limit, held_back=False)
    other = failure_forecast(scale * scores + shift, scale * limit + shift, held_back=False)
    assert (other.low, other.point, other.high) == pytest.approx(
        (one.low, one.point, one.high), rel=1e-5, abs=1e-15
    )


def test_further_limits_have_smaller_shares_and_higher_levels_wider_intervals() -> None:
    scores = np.random.default_rng(5).logistic(size=1000)
    near, far = (failure_forecast(scores, limit, held_back=False) for limit in (8.0, 12.0))
    assert far.point < near.point
    assert far.high < near.high
    sure = failure_forecast(scores, 8.0, 0.99, held_back=False)
    assert sure.low <= near.low < near.point < near.high < sure.high


@pytest.mark.parametrize("straight", [True, False])
def test_it_cannot_be_taken_for_a_failure_rate(straight: bool) -> None:
    scores = np.random.default_rng(6).logistic(size=1000)
    largest = largest_forecast(scores, 10_000, straight=straight)
    for found in (failure_forecast(scores, 10.0, straight=straight), largest):
        assert found.what.startswith("forecast of the ")
        assert not found.is_failure_rate
        assert "nines" not in found.line
        assert "(about 95% if the tail of the scores goes on as it begins" in found.line
        assert "this is a forecast beyond the data, not a bound" in found.assumptions
        assert "nines" not in found.to_dict()


@pytest.mark.parametrize(
    ("name", "n", "rate", "straight"),
    [
        ("expon", 500, 1e-5, True),
        ("gumbel_r", 2000, 1e-6, True),
        ("logistic", 500, 1e-4, False),
        ("norm", 1000, 1e-5, False),
        ("t", 1000, 1e-5, False),
    ],
)
def test_forecasts_cover_where_the_tail_goes_on(name: str, n: int, rate: float, straight: bool) -> None:
    law = stats.t(4) if name == "t" else getattr(stats, name)
    limit, rng, rounds = float(law.isf(rate)), np.random.default_rng(7), 100
    drawn = law.rvs(size=(rounds, n), random_state=rng)
    found = [failure_forecast(each, limit, straight=straight, held_back=False) for each in drawn]
    assert enough(sum(each.contains(rate) for each in found), rounds)
    orders = np.log10([each.point / rate for each in found])
    if straight:
        assert abs(float(np.median(orders))) < 0.2
    else:  # on the safe side
        assert (orders < -1).mean() <= 0.06
        assert 0.0 < float(np.median(orders)) < 2.0


@pytest.mark.parametrize(("name", "sign"), [("norm", 1), ("t", -1)])
def test_a_straight_line_errs_where_the_tail_bends_and_the_bent_one_does_not(name: str, sign: int) -> None:
    """Upwards for normal scores (arXiv 2605.15134), and dangerously downwards for heavy tails."""
    law = stats.t(6) if name == "t" else stats.norm
    limit, rng, straight, bent, rounds = float(law.isf(1e-6)), np.random.default_rng(8), 0, 0, 40
    for _ in range(rounds):
        scores = law.rvs(size=500, random_state=rng)
        line = failure_forecast(scores, limit, top=60, straight=True, held_back=False)
        straight += (line.low > 1e-6) if sign > 0 else (line.high < 1e-6)
        with contextlib.suppress(DataError):  # that the tail ends before is no forecast, and counts as wrong
            bent += failure_forecast(scores, limit, top=60, held_back=False).contains(1e-6)
    assert straight / rounds > 0.5
    assert enough(bent, rounds)


@pytest.mark.parametrize(
    ("straight", "law"), [(True, stats.expon), (False, stats.logistic), (False, stats.norm)]
)
def test_the_largest_score_of_further_draws_is_predicted(straight: bool, law: Any) -> None:
    rng, rounds, held = np.random.default_rng(9), 100, 0
    for _ in range(rounds):
        found = largest_forecast(law.rvs(size=300, random_state=rng), 30_000, straight=straight)
        held += found.contains(float(law.isf(-math.expm1(math.log(rng.random()) / 30_000))))
    assert enough(held, rounds)


def test_the_largest_of_more_draws_is_larger() -> None:
    scores = np.random.default_rng(10).gumbel(size=500)
    few, many = (largest_forecast(scores, m, straight=True) for m in (500, 500_000))
    assert few.low < few.point < many.point < many.high
    mean_excess = float(np.mean(np.sort(scores)[-68:] - np.sort(scores)[-69]))
    assert many.point - few.point == pytest.approx(math.log(1000) * mean_excess, rel=0.1)


# --- its error on held-back scores


def test_held_back_error_is_small_where_the_tail_goes_on() -> None:
    error = forecast_error(np.random.default_rng(11).logistic(size=5000), 20)
    assert (error.size, error.blocks) == (250, 100)
    assert error.reach == pytest.approx(4750 / 2500)
    assert error.low < error.median < error.high
    assert abs(error.median) < 0.5
    assert error.within_ten > 0.9
    assert error.covered > 0.8
    assert "on held-back scores, forecasts from 250 draws, 1.9 times beyond one in a block" in error.line


def test_held_back_error_shows_a_line_that_does_not_hold() -> None:
    scores = np.random.default_rng(12).standard_t(3, size=20_000)
    line, bent = (forecast_error(scores, 100, top=40, straight=straight) for straight in (True, False))
    assert line.median < -1.0
    assert line.covered < 0.5
    assert abs(bent.median) < 0.7
    assert bent.covered > 0.8


def test_held_back_error_agrees_with_a_slow_one() -> None:
    """One block by hand: two parts of a tiny sample, the level that ten of the other part exceed."""
    scores = np.random.default_rng(13).logistic(size=120)
    error = forecast_error(scores, 2, straight=True, seed=3)
    rng, rising = np.random.default_rng(3), np.sort(scores)[::-1]
    depths, steps = -np.log(rng.beta(13, 48, 4_000)), rng.gamma(12, size=4_000)  # the top 12 of 60
    found = []
    for _ in range(6):
        dealt = rng.permutation(120)
        for own, other in ((dealt[:60], dealt[60:]), (dealt[60:], dealt[:60])):
            limit = sorted(rising[other], reverse=True)[10]
            top = sorted(rising[own], reverse=True)[:13]
            shares = np.exp(-depths - steps * (limit - top[12]) / sum(value - top[12] for value in top[:12]))
            found.append(math.log10(sorted(shares)[1_999] / (10 / 60)))
    assert error.median == pytest.approx(sorted(found)[5], rel=1e-9)
    assert error.blocks == 12


def test_the_error_stands_with_the_forecast() -> None:
    scores = np.random.default_rng(14).logistic(size=3000)
    assert any(each.startswith("on held-back scores") for each in failure_forecast(scores, 10.0).assumptions)
    (far,) = (each for each in failure_forecast(scores, 40.0).assumptions if each.startswith("on held-back"))
    assert "times beyond one in all, which was not checked" in far
    few = failure_forecast(scores[:60], 10.0).assumptions[-1]
    assert few == "too few scores to check the forecast on held-back ones"
    coarse = np.concatenate([np.round(scores[:2900], 1), 9.0 + scores[2900:]])
    tied = failure_forecast(coarse, 20.0, top=20).assumptions[-1]
    assert tied == "tied scores prevent a check on held-back ones"


# --- edges


def test_the_seed_decides_all_that_is_random() -> None:
    scores = np.random.default_rng(15).logistic(size=1000)
    assert failure_forecast(scores, 9.0, seed=1) == failure_forecast(scores[::-1], 9.0, seed=1)
    assert failure_forecast(scores, 9.0, seed=1) != failure_forecast(scores, 9.0, seed=2)
    assert failure_forecast(scores, 9.0, seed=2).point == pytest.approx(
        failure_forecast(scores, 9.0).point, rel=0.1
    )


def test_a_million_scores_in_two_seconds() -> None:
    scores = np.random.default_rng(16).logistic(size=1_000_000)
    start = time.process_time()
    failure_forecast(scores, 15.0)
    assert time.process_time() - start < 2.0


def test_a_limit_beyond_the_end_of_the_tail_is_refused_not_called_zero() -> None:
    scores = np.random.default_rng(17).random(3000)
    with pytest.raises(DataError, match="limit must not lie beyond the end of the top scores' tail, got 5"):
        failure_forecast(scores, 5.0)
    cautious = failure_forecast(scores, 5.0, straight=True, held_back=False)
    assert 0.0 < cautious.low < cautious.high < 1.0


def test_a_straight_line_is_refused_where_the_scores_visibly_bend_up() -> None:
    scores = np.random.default_rng(19).standard_t(2, size=5000)
    with pytest.raises(
        DataError, match=r"must not bend up within the top scores, got p = .* Leave straight out"
    ):
        failure_forecast(scores, 1000.0, straight=True)
    assert failure_forecast(scores, 1000.0, held_back=False).contains(float(stats.t(2).sf(1000.0)))


@pytest.mark.parametrize(
    ("margins", "limit", "kwargs", "error", "message"),
    [
        ([math.nan] * 60, 5.0, {}, DataError, "margins must be finite, got nan"),
        ([math.inf, *range(99)], 500.0, {}, DataError, "margins must be finite, got inf"),
        ([], 5.0, {}, NotEnoughDataError, "margins must be at least 50 for a forecast, got 0"),
        (range(49), 90.0, {}, NotEnoughDataError, "margins must be at least 50 for a forecast, got 49"),
        (
            range(19),
            90.0,
            {"top": 10},
            NotEnoughDataError,
            "margins must be at least 20 for a forecast, got 19",
        ),
        ([7.0] * 100, 9.0, {}, DataError, "the 21 largest margins must all differ, got 1 values"),
        ([*range(98), 97, 97], 99.0, {}, DataError, "the 21 largest margins must all differ, got 19 values"),
        (
            range(100),
            70.0,
            {},
            DataError,
            r"limit must be finite and above the score 79, got 70\.0. Below it",
        ),
        (range(100), math.inf, {}, DataError, "limit must be finite and above the score 79, got inf"),
        (
            range(100),
            120.0,
            {"top": 9},
            DataError,
            "top must lie between 10 and half of the 100 scores, got 9",
        ),
        (
            range(100),
            120.0,
            {"top": 51},
            DataError,
            "top must lie between 10 and half of the 100 scores, got 51",
        ),
        (range(100), 120.0, {"top": 2.5}, DataError, r"top must be a whole number, got 2\.5"),
        (range(100), 120.0, {"level": 0.9999}, ConfigError, r"level must be at most 0\.999 for a forecast"),
        (range(100), 120.0, {"level": 95}, ConfigError, "level must lie strictly between 0 and 1, got 95"),
    ],
)
def test_broken_forecasts_are_refused(
    margins: Any, limit: float, kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        failure_forecast(list(margins), limit, **kwargs)


def test_other_misuse_is_refused() -> None:
    scores = np.random.default_rng(18).logistic(size=1000)
    with pytest.raises(DataError, match="draws must be at least the 1000 that were seen, got 999"):
        largest_forecast(scores, 999)
    with pytest.raises(ConfigError, match="ratio must be at least 2, got 1"):
        forecast_error(scores, 1)
    with pytest.raises(
        NotEnoughDataError, match="margins must be at least 1050 for 21 blocks, got 1000"
    ) as caught:
        forecast_error(scores, 21)
    assert caught.value.more_needed == 50
    with pytest.raises(NotEnoughDataError, match="excesses must be at least 5, got 4"):
        pareto_fit([1, 2, 3, 4])
    with pytest.raises(DataError, match=r"excesses must be positive, got 0\.0"):
        pareto_fit([0, 1, 2, 3, 4])
    assert LEAST_TOP == 10
    assert module._TRUSTS == "the tail of the scores goes on as it begins"
