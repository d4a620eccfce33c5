"""Designs: the probability that is written down is the one with which an item is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats.designs import (
    Design,
    design_active,
    design_near_threshold,
    design_stratified,
    design_uniform,
    stratum_numbers,
)

SCORES = np.random.default_rng(0).beta(0.3, 6.0, 400)


def designs() -> list[Design]:
    return [
        design_uniform(400, 60),
        design_active(SCORES, 60),
        design_active(SCORES, 60, sharpness=1.0, suspects=np.arange(400) % 20 == 0, suspect_share=0.4),
        design_near_threshold(SCORES, 0.05, 60),
        design_stratified(stratum_numbers(SCORES, [0.01, 0.1]), 60),
    ]


@pytest.mark.parametrize("design", designs(), ids=lambda design: str(design.name))
def test_items_are_drawn_as_often_as_the_design_says(design: Design) -> None:
    rounds, times = 3000, np.zeros(400)
    for seed in range(rounds):
        times[design.draw(seed)] += 1
    error = np.sqrt(design.inclusion * (1 - design.inclusion) / rounds)
    assert np.abs(times / rounds - design.inclusion).max() < 5 * error.max()
    assert design.labels == pytest.approx(60, abs=1e-6)
    assert design.inclusion.min() >= design.floor * (1 - 1e-9)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=3, max_size=60),
    st.floats(0.01, 1.0),
    st.floats(0.05, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_active_spends_the_budget_and_never_less_than_the_floor(
    predictions: list[float], share: float, uniform: float
) -> None:
    labels = share * len(predictions)
    design = design_active(predictions, labels, uniform=uniform)
    assert design.labels == pytest.approx(labels, rel=1e-6)
    assert design.floor == pytest.approx(uniform * labels / len(predictions))
    assert (design.inclusion >= design.floor * (1 - 1e-9)).all()
    assert (design.inclusion <= 1).all()


def slow_active(worth: NDArray[np.float64], total: float, most: float) -> NDArray[np.float64]:
    """min(eta worth, most), eta by bisection."""
    low, high = 0.0, most / worth[worth > 0].min() + 1.0
    for _ in range(400):
        eta = (low + high) / 2
        low, high = (eta, high) if np.minimum(eta * worth, most).sum() < total else (low, eta)
    found: NDArray[np.float64] = np.minimum(high * worth, most)
    return found


def test_active_agrees_with_a_slow_implementation() -> None:
    worth = np.sqrt(SCORES * (1 - SCORES))
    design = design_active(SCORES, 250, uniform=0.1)
    floor = 0.1 * 250 / 400
    assert np.allclose(design.inclusion, floor + slow_active(worth, 225.0, 1.0 - floor), rtol=1e-9, atol=1e-9)
    assert (design.inclusion == 1.0).sum() > 3  # some are certain at this budget


def test_the_uncertain_are_labelled_more_often_and_certain_ones_all_the_same() -> None:
    design = design_active([0.0, 1e-4, 0.01, 0.5, 1.0], 2.0, uniform=0.25)
    assert design.inclusion[3] > design.inclusion[2] > design.inclusion[1] > design.inclusion[0]
    assert design.inclusion[0] == pytest.approx(0.1)
    heavy = design_active([0.1, 0.1], 1.0, weights=[1.0, 3.0])
    assert heavy.inclusion[1] > heavy.inclusion[0]


def test_near_the_threshold_is_where_the_labels_go() -> None:
    design = design_near_threshold([0.001, 0.045, 0.05, 0.9], 0.05, 1.0, uniform=0.2)
    assert design.inclusion.argmax() == 2
    assert design.inclusion[1] > 3 * design.inclusion[0]
    assert design.inclusion.min() >= 0.05


def test_strata_get_fixed_numbers() -> None:
    strata = stratum_numbers(SCORES, [0.01, 0.1])
    sizes = np.bincount(strata)
    for allocation, expected in (("equal", [20, 20, 20]), ("proportional", np.round(60 * sizes / 400))):
        design = design_stratified(strata, 60, allocation=allocation)  # type: ignore[arg-type]
        taken = [np.bincount(strata[design.draw(seed)], minlength=3) for seed in range(5)]
        assert all((row == taken[0]).all() for row in taken)
        assert np.abs(taken[0] - expected).max() <= 1
        assert taken[0].sum() == 60
    best = design_stratified(strata, 60, allocation="optimal", expected_rates=[1e-4, 1e-2, 0.3])
    wish = sizes * np.sqrt(np.array([1e-4, 1e-2, 0.3]) * (1 - np.array([1e-4, 1e-2, 0.3])))
    assert np.abs(np.bincount(strata[best.draw(0)]) - 60 * wish / wish.sum()).max() <= 1.5


def test_a_small_stratum_is_taken_whole_and_the_rest_goes_on() -> None:
    design = design_stratified([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], 8)
    assert np.bincount(np.array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1])[design.draw(0)]).tolist() == [2, 6]


def test_suspects_get_their_share_of_what_is_not_uniform() -> None:
    suspects = np.arange(400) < 40
    design = design_active(np.full(400, 0.01), 50, uniform=0.2, suspects=suspects, suspect_share=0.5)
    assert design.inclusion[suspects].sum() == pytest.approx(10 * 0.1 + 40 * (0.5 + 0.5 * 0.1))
    assert design.inclusion[~suspects].sum() == pytest.approx(10 * 0.9 + 40 * 0.5 * 0.9)
    assert design.name == "active, with suspects"
    none = design_active(SCORES, 60, suspects=np.zeros(400, bool))
    assert none.inclusion == pytest.approx(design_active(SCORES, 60).inclusion)
    sure = design_active(
        [0.0, 1.0, 0.0, 0.0], 1, suspects=[0, 0, 1, 0], uniform=0.2
    )  # predictions worth nothing
    assert sure.inclusion[2] == sure.inclusion.max()


def test_sharpness_takes_labels_from_the_safe_many() -> None:
    flat, sharp = (design_active(SCORES, 40, sharpness=exponent) for exponent in (0.5, 1.0))
    likely = np.quantile(SCORES, 0.9) < SCORES
    assert sharp.inclusion[likely].sum() > 1.2 * flat.inclusion[likely].sum()
    assert sharp.labels == pytest.approx(flat.labels)


def test_the_same_seed_draws_the_same() -> None:
    for design in designs():
        assert (design.draw(7) == design.draw(7)).all()
        assert (np.diff(design.draw(7)) > 0).all()


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="labels must be positive and at most the 10 items, got 11"):
        design_uniform(10, 11)
    with pytest.raises(ConfigError, match="labels must be positive"):
        design_uniform(0, 1)
    with pytest.raises(ConfigError, match=r"sharpness must lie in \(0, 2\], got 0"):
        design_active([0.1, 0.2], 1, sharpness=0)
    with pytest.raises(ConfigError, match="suspect_share must lie strictly between 0 and 1, got 1"):
        design_active([0.1, 0.2], 1, suspects=[1, 0], suspect_share=1)
    with pytest.raises(DataError, match="suspects must have one value for each of the 2 items, got 3"):
        design_active([0.1, 0.2], 1, suspects=[1, 0, 0])
    with pytest.raises(
        ConfigError, match="allocation must be one of proportional, equal, optimal, got neyman"
    ):
        design_stratified([0, 1], 2, allocation="neyman")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="uniform must lie in"):
        design_active([0.1, 0.2], 1, uniform=0.0)
    with pytest.raises(DataError, match=r"predictions must lie in \[0, 1\], got 1.5"):
        design_active([0.1, 1.5], 1)
    with pytest.raises(DataError, match="scores must be finite"):
        design_near_threshold([0.1, math.nan], 0.5, 1)
    with pytest.raises(ConfigError, match="threshold must lie strictly between 0 and 1"):
        design_near_threshold([0.1, 0.2], 95, 1)
    with pytest.raises(NotEnoughDataError, match="at least one for each of 3 strata"):
        design_stratified([0, 1, 2, 2], 2)
    with pytest.raises(ConfigError, match="expected_rates must be given"):
        design_stratified([0, 1], 2, allocation="optimal")
    with pytest.raises(DataError, match="strata must be whole numbers from 0"):
        design_stratified([0.5, 1], 2)
    with pytest.raises(DataError, match="edges must ascend"):
        stratum_numbers([0.1], [0.5, 0.5])
    with pytest.raises(DataError, match="inclusion must lie in"):
        Design(np.array([0.5, 0.0]), 0.1, "by hand")
