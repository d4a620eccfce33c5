"""Rates of a pool that was labelled by a design: unbiased whatever the predictions, covered, never certain."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError
from fivenines.stats import failure_rate_exact, failure_rate_weighted
from fivenines.stats.assisted import (
    failure_rate_assisted,
    failure_rate_hajek,
    failure_rate_horvitz_thompson,
    pseudo_outcomes,
)
from fivenines.stats.designs import Design, design_active, design_stratified, design_uniform


def pool(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Chances of failing, most of them tiny, and what came of them."""
    chance = rng.beta(0.05, 4.0, size)
    return chance, rng.random(size) < chance


def test_agrees_with_a_slow_implementation() -> None:
    rng = np.random.default_rng(1)
    chance, failed = pool(rng, 300)
    design = design_active(chance, 60)
    at = design.draw(2)
    total = sum(chance)
    for i in at:
        total += (float(failed[i]) - chance[i]) / design.inclusion[i]
    found = failure_rate_assisted(design, chance, at, failed[at])
    assert found.point == pytest.approx(total / 300, abs=1e-12)
    plain = failure_rate_horvitz_thompson(failed[at], design.inclusion[at], 300, design.floor)
    assert plain.point == pytest.approx(sum(failed[i] / design.inclusion[i] for i in at) / 300, abs=1e-12)
    ratio = failure_rate_hajek(failed[at], design.inclusion[at], design.floor)
    weights = [1 / design.inclusion[i] for i in at]
    assert ratio.point == pytest.approx(
        sum(w * failed[i] for w, i in zip(weights, at, strict=True)) / sum(weights), abs=1e-12
    )


def test_useless_predictions_of_zero_give_horvitz_thompson() -> None:
    rng = np.random.default_rng(3)
    _, failed = pool(rng, 500)
    design = design_uniform(500, 100)
    at = design.draw(1)
    assisted = failure_rate_assisted(design, np.zeros(500), at, failed[at])
    plain = failure_rate_horvitz_thompson(failed[at], design.inclusion[at], 500, design.floor)
    assert (assisted.low, assisted.point, assisted.high) == pytest.approx(
        (plain.low, plain.point, plain.high)
    )


@pytest.mark.parametrize("quality", ["right", "wrong", "inverted"])
def test_unbiased_whatever_the_predictions(quality: str) -> None:
    rng = np.random.default_rng(4)
    chance, failed = pool(rng, 400)
    predictions = {"right": chance, "wrong": rng.random(400), "inverted": 1 - chance}[quality]
    design = design_active(predictions, 120)
    points = []
    for seed in range(1500):
        at = design.draw(seed)
        points.append(pseudo_outcomes(design, predictions, at, failed[at]).mean())
    error = np.std(points) / math.sqrt(len(points))
    assert abs(np.mean(points) - failed.mean()) < 4 * error


def test_good_predictions_make_the_estimate_precise() -> None:
    rng = np.random.default_rng(5)
    chance, _ = pool(rng, 2000)
    assisted, plain = [], []
    for seed in range(60):
        failed = rng.random(2000) < chance
        active, uniform = design_active(chance, 200), design_uniform(2000, 200)
        at, other = active.draw(seed), uniform.draw(seed)
        assisted.append(failure_rate_assisted(active, chance, at, failed[at]).point - chance.mean())
        plain.append(failed[other].mean() - chance.mean())
    assert np.std(assisted) < 0.5 * np.std(plain)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_interval_is_sound_and_never_certain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance, failed = pool(rng, 200)
    design = design_active(rng.random(200), 50)
    at = design.draw(rng)
    found = failure_rate_assisted(design, chance, at, failed[at])
    assert 0.0 <= found.low <= found.high <= 1.0
    assert found.point >= 0.0
    assert found.high > 0.0


def test_no_failure_seen_is_bounded_by_the_uniform_labels_alone() -> None:
    """No free lunch: perfect-looking predictions do not lower the bound below that of the uniform share."""
    design = design_active(np.full(10_000, 1e-6), 2000, uniform=0.2)
    at = design.draw(0)
    found = failure_rate_assisted(design, np.full(10_000, 1e-6), at, np.zeros(at.size))
    exact = failure_rate_exact(0, 2000)
    assert found.high > exact.high
    assert found.trusts == ""


def test_predictions_that_refute_every_rate_do_not_give_fifteen_nines() -> None:
    """Labels far below confident predictions can leave no rate standing; the bound is then that of no failure."""
    design = design_uniform(400, 40)
    rng = np.random.default_rng(1906)
    at = design.draw(rng)
    found = failure_rate_assisted(design, np.full(400, 0.9), at, rng.random(at.size) < 0.02)
    none = failure_rate_horvitz_thompson(np.zeros(at.size), design.inclusion[at], 400, design.floor)
    assert found.high >= none.high > 0.08


def test_no_labels_say_nothing_whatever_the_predictions() -> None:
    design = design_uniform(100, 1)
    for found in (
        failure_rate_horvitz_thompson([], [], 100, design.floor),
        failure_rate_assisted(design, np.full(100, 1e-6), [], []),
        failure_rate_hajek([], [], 0.1),
    ):
        assert math.isnan(found.point)
        assert (found.low, found.high, found.n) == (0.0, 1.0, 0)


def test_answers_that_are_missing_are_noticed() -> None:
    design = design_uniform(10_000, 1000)
    at = design.draw(0)
    half = at[::2]
    with pytest.raises(DataError, match="the number of labels must be about the design's 1000, got 4"):
        failure_rate_assisted(design, np.zeros(10_000), half, np.zeros(half.size))
    with pytest.raises(DataError, match=r"about the design's 1000 or more, got 4.*Are answers missing"):
        failure_rate_horvitz_thompson(np.zeros(half.size), design.inclusion[half], 10_000, design.floor)
    assert any("none was left out" in each for each in failure_rate_assisted(
        design, np.zeros(10_000), at, np.zeros(at.size)).assumptions)  # fmt: skip


def test_refuses() -> None:
    design = design_uniform(10, 5)
    with pytest.raises(DataError, match="labelled must name each item once"):
        failure_rate_assisted(design, np.zeros(10), [1, 1], [0, 0])
    with pytest.raises(DataError, match="labelled must be positions from 0 to 9"):
        failure_rate_assisted(design, np.zeros(10), [1, 10], [0, 0])
    with pytest.raises(DataError, match=r"predictions must lie in \[0, 1\]"):
        failure_rate_assisted(design, np.full(10, 1.5), [1], [0])
    with pytest.raises(DataError, match="predictions must have one value for each of the 10 items"):
        failure_rate_assisted(design, np.zeros(9), [1], [0])
    with pytest.raises(ConfigError, match="Use failure_rate_stratified"):
        failure_rate_assisted(design_stratified([0] * 5 + [1] * 5, 4), np.zeros(10), [1], [0])
    with pytest.raises(DataError, match=r"inclusion must lie in \[0.1, 1\], got 0.0"):
        failure_rate_horvitz_thompson([0], [0.0], 10, 0.1)
    with pytest.raises(DataError, match="pool must hold at least the 3 labelled items, got 2"):
        failure_rate_horvitz_thompson([0, 0, 0], [0.5, 0.5, 0.5], 2, 0.1)
    with pytest.raises(DataError, match="floor must lie in"):
        failure_rate_hajek([0], [0.5], 0.0)
    with pytest.raises(ConfigError, match=r"Write 0\.95"):
        failure_rate_assisted(design, np.zeros(10), [1, 3, 5], [0, 0, 0], 95)


def test_a_million_items_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(1_000_000) ** 8
    failed = rng.random(1_000_000) < chance
    design = design_active(chance, 200_000)
    at = design.draw(0)
    begin = time.process_time()
    found = failure_rate_assisted(design, chance, at, failed[at])
    assert time.process_time() - begin < 4.0  # 2 s on a machine that does nothing else
    assert found.contains(float(chance.mean()))


@pytest.mark.parametrize("predictions", ["calibrated", "blind"])
def test_coverage_of_rare_failures(predictions: str) -> None:
    """Against the rate of the distribution, not that of the pool at hand: a fresh pool each time."""
    rng = np.random.default_rng(8)
    rounds, covered, truth = 120, {"assisted": 0, "horvitz": 0, "hajek": 0}, 0.05 / 40.05
    for _ in range(rounds):
        chance = rng.beta(0.05, 40.0, 1000)
        failed = rng.random(1000) < chance
        told = chance if predictions == "calibrated" else rng.permutation(chance)
        design = design_active(told, 100)
        at = design.draw(rng)
        pi = design.inclusion[at]
        covered["assisted"] += failure_rate_assisted(design, told, at, failed[at]).contains(truth)
        covered["horvitz"] += failure_rate_horvitz_thompson(failed[at], pi, 1000, design.floor).contains(
            truth
        )
        covered["hajek"] += failure_rate_hajek(failed[at], pi, design.floor).contains(truth)
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert {name: times / rounds >= least for name, times in covered.items()} == dict.fromkeys(covered, True)


def test_hajek_is_the_weighted_rate_of_one_over_inclusion() -> None:
    pi = np.array([0.1, 0.5, 1.0, 0.2])
    found = failure_rate_hajek([1, 0, 0, 1], pi, 0.1)
    same = failure_rate_weighted([1, 0, 0, 1], 1 / pi, 10.0)
    assert (found.low, found.point, found.high) == (same.low, same.point, same.high)


def test_a_design_by_hand() -> None:
    found = Design(np.array([0.5, 1.0]), 0.5, "by hand")
    assert found.labels == 1.5
