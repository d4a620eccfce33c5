"""Monotone, better than before, and honest about what it lacks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from fivenines.models.calibration import Calibration, Method, fit_calibration, log_loss

methods = st.sampled_from(["temperature", "platt", "isotonic"])


def simulate(
    seed: int, n: int, slope: float = 3.0, offset: float = -2.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Margins that are ``slope`` times too steep and off by ``offset``, with answers."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 2, n)
    return slope * true - offset, (rng.random(n) < expit(true)).astype(float)


@given(st.integers(0, 1000), methods, st.integers(20, 200))
@settings(max_examples=60, deadline=None)
def test_rises_strictly_and_stays_in_bounds(seed: int, method: Method, n: int) -> None:
    z, t = simulate(seed, n)
    if t.min() == t.max():
        return
    calibration = fit_calibration(z, t, method=method)
    grid = np.linspace(-6, 6, 200)
    p = calibration(grid)
    assert np.all((p >= 0) & (p <= 1))
    assert np.all(np.diff(p) > 0)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_improves_the_log_loss_of_other_data(method: Method) -> None:
    z, t = simulate(0, 3000)
    other, answers = simulate(1, 3000)
    calibration = fit_calibration(z, t, method=method)
    before, after = log_loss(Calibration()(other), answers), log_loss(calibration(other), answers)
    assert after < 0.75 * before
    if method == "platt":  # the true map is 1/3 z - 2/3
        assert calibration.slope == pytest.approx(1 / 3, abs=0.03)
        assert calibration.offset == pytest.approx(-2 / 3, abs=0.15)


def test_platt_is_logistic_regression_on_many_data() -> None:
    z, t = simulate(2, 20_000)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(z))
    calibration = fit_calibration(z, t, weights=weights)
    regression: Any = LogisticRegression
    reference = regression(C=1e9, tol=1e-10).fit(z[:, None], t, sample_weight=weights)
    assert calibration.slope == pytest.approx(float(reference.coef_[0, 0]), rel=5e-3)
    assert calibration.offset == pytest.approx(float(reference.intercept_[0]), rel=5e-3)


def test_weights_move_it_to_the_pool() -> None:
    z, t = simulate(3, 4000, slope=1.0, offset=0.0)
    weights = np.where(t > 0.5, 1.0, 10.0)  # oks were drawn ten times more rarely
    calibration = fit_calibration(z, t, weights=weights)
    assert calibration.offset == pytest.approx(-np.log(10), abs=0.25)


def test_separable_answers_give_no_step() -> None:
    calibration = fit_calibration([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    assert calibration(np.array([2.0]))[0] < 0.9


def test_nan_stays_nan() -> None:
    kinds: tuple[Method, ...] = ("platt", "isotonic")
    for method in kinds:
        calibration = fit_calibration(*simulate(0, 100), method=method)
        assert np.isnan(calibration([np.nan, 0.0])).tolist() == [True, False]


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_log_odds_are_those_of_the_probabilities_and_do_not_saturate(method: Method) -> None:
    calibration = fit_calibration(*simulate(0, 400), method=method)
    p, odds = calibration(np.linspace(-5, 5, 101)), calibration.log_odds(np.linspace(-5, 5, 101))
    assert odds == pytest.approx(np.log(p) - np.log1p(-p), rel=1e-6, abs=1e-9)
    far = calibration.log_odds([-2000.0, -1000.0, 1000.0, 2000.0])
    assert np.isfinite(far).all()
    assert (np.diff(far) >= 0).all()
    if method != "isotonic":
        assert far == pytest.approx(calibration.slope * np.array([-2e3, -1e3, 1e3, 2e3]) + calibration.offset)
    assert np.isnan(calibration.log_odds([np.nan, 0.0])).tolist() == [True, False]


def test_what_it_refuses() -> None:
    with pytest.raises(NotEnoughDataError, match="calibration needs both answers, got no failure") as caught:
        fit_calibration([0.0, 1.0], [0, 0])
    assert caught.value.more_needed == 1
    with pytest.raises(NotEnoughDataError, match="got no ok"):
        fit_calibration([0.0, 1.0], [1, 1])
    with pytest.raises(DataError, match="margins must be finite, got 1 of 2 that are not"):
        fit_calibration([0.0, np.nan], [0, 1])
    with pytest.raises(DataError, match="must be of one length"):
        fit_calibration([0.0], [0, 1])
    with pytest.raises(ConfigError, match="calibration method must be one of temperature, platt, isotonic"):
        fit_calibration([0.0, 1.0], [0, 1], method="beta")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="scores must rise with the failures"):
        fit_calibration(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40) < 0)
