"""Reliability curves and calibration error: published values, slow copies, and intervals that hold."""

from __future__ import annotations

import itertools
import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import failure_rate_exact, ratio_weighted
from fivenines.stats.reliability import (
    CalibrationBin,
    _binned,
    _joint_bounds,
    calibration_curve,
    calibration_error,
    failure_rate_unlike,
)

Floats = NDArray[np.float64]


def enough(covered: int, rounds: int, level: float) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


# --- published numbers


def test_curve_of_the_scikit_learn_documentation() -> None:
    # scikit-learn 1.9, example of calibration_curve: prob_true [0, 0.5, 1], prob_pred [0.2, 0.525, 0.85]
    failed = [0, 0, 0, 0, 1, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.3, 0.4, 0.65, 0.7, 0.8, 0.9, 1.0]
    found = calibration_curve(failed, scores, bins=np.linspace(0, 1, 4))
    assert [each.failure_rate.point for each in found] == pytest.approx([0.0, 0.5, 1.0])
    assert [each.mean_score for each in found] == pytest.approx([0.2, 0.525, 0.85])


def test_error_of_the_torchmetrics_documentation() -> None:
    # torchmetrics, example of BinaryCalibrationError with 2 bins: l1 0.2900, l2 0.2918
    failed, scores, edges = [0, 0, 1, 1, 1], [0.25, 0.25, 0.55, 0.75, 0.75], [0.0, 0.5, 1.0]
    assert calibration_error(failed, scores, bins=edges).point == pytest.approx(0.29, abs=5e-5)
    squared = calibration_error(failed, scores, bins=edges, power=2)
    # both bins are pure, so that there is no variance to take off
    assert math.sqrt(squared.point) == pytest.approx(0.2918, abs=5e-5)


def test_error_of_the_tests_of_verified_calibration() -> None:
    # github.com/p-lambda/verified_calibration (Kumar et al. 2019), test_get_binary_ce: 4/9 0.25 + 5/9 0.2
    scores = [0.5, 0.5, 0.5, 0.6, 0.5, 0.6, 0.6, 0.6, 0.6]
    failed = [0, 1, 0, 1, 0, 1, 1, 1, 0]
    found = calibration_error(failed, scores, bins=[0.0, 0.55, 1.0])
    assert found.point == pytest.approx(4 / 9 * 0.25 + 5 / 9 * 0.2)
    debiased = calibration_error(failed, scores, bins=[0.0, 0.55, 1.0], power=2)
    plain = 4 / 9 * 0.25**2 + 5 / 9 * 0.2**2
    bias = 4 / 9 * 0.25 * 0.75 / 3 + 5 / 9 * 0.8 * 0.2 / 4  # their unbiased_square_ce
    assert debiased.point == pytest.approx(max(0.0, plain - bias))


# --- independent slow implementations


def test_unlike_items_have_the_binomial_limits_of_a_smaller_tail() -> None:
    for k, n, level in ((0, 20, 0.95), (3, 40, 0.9), (40, 40, 0.99)):
        tail = 1 - math.exp(-(1 - level) / 2)
        low = 0.0 if k == 0 else stats.beta.ppf(tail, k, n - k + 1)
        high = 1.0 if k == n else stats.beta.isf(tail, k + 1, n - k)
        found = failure_rate_unlike(k, n, level)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
        exact = failure_rate_exact(k, n, level)
        assert found.high - found.low <= 1.02 * (exact.high - exact.low)
        assert found.level == level


def test_equal_mass_bins_agree_with_a_loop() -> None:
    rng = np.random.default_rng(1)
    scores, failed = rng.integers(0, 30, 200) / 30, rng.random(200) < 0.3
    weights = rng.uniform(0.1, 3.0, 200)
    found = calibration_curve(failed, scores, weights, bins=7, weight_bound=3.0)
    groups: list[list[int]] = [[]]
    before = 0.0
    order = np.argsort(scores, kind="stable")
    targets = [weights.sum() * j / 7 for j in range(1, 7)]
    cuts = set()
    for item in order:
        while targets and before >= targets[0]:
            targets.pop(0)
            cuts.add(scores[item])
        before += weights[item]
    for item in order:
        if scores[item] in cuts and groups[-1] and scores[groups[-1][-1]] != scores[item]:
            groups.append([])
        groups[-1].append(item)
    assert [each.n for each in found] == [len(group) for group in groups]
    for each, group in zip(found, groups, strict=True):
        w = weights[group]
        assert each.mean_score == pytest.approx((w * scores[group]).sum() / w.sum(), abs=1e-9)
        assert each.failure_rate.point == pytest.approx((w * failed[group]).sum() / w.sum(), abs=1e-9)
        assert each.share == pytest.approx(w.sum() / weights.sum(), abs=1e-9)
        direct = ratio_weighted(failed[group], w, 3.0)
        assert each.failure_rate.high == pytest.approx(direct.high, abs=1e-9)


def test_joint_bounds_agree_with_trying_every_split() -> None:
    failed = np.array([0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1])
    scores = np.repeat([0.1, 0.4, 0.9], 4) + np.tile([0.0, 0.01, 0.02, 0.03], 3)
    for power in (1, 2):
        found = _joint_bounds(_binned(failed, scores, None, 3), 0.9, power)
        units = 60 + 30
        budget = units + 2
        low, high = math.inf, -math.inf
        gaps: list[list[tuple[float, float]]] = []
        for group in range(3):
            k, mean = int(failed[4 * group : 4 * group + 4].sum()), 0.1 * (1, 4, 9)[group] + 0.015
            gaps.append([])
            for unit in range(budget + 1):
                tail = stats.norm.sf(math.sqrt(unit / units * stats.chi2.ppf(0.9, 3)))
                tail = 1 - math.exp(-min(tail, 0.25))
                bottom = 0.0 if k == 0 else stats.beta.ppf(tail, k, 5 - k)
                top = 1.0 if k == 4 else stats.beta.isf(tail, k + 1, 4 - k)
                near = max(0.0, bottom - mean, mean - top) ** power
                far = max(abs(top - mean), abs(mean - bottom)) ** power
                gaps[-1].append((near / 3, far / 3))
        for one, two in itertools.product(range(budget + 1), repeat=2):
            if one + two <= budget:
                parts = [gaps[0][one], gaps[1][two], gaps[2][budget - one - two]]
                low, high = min(low, sum(p[0] for p in parts)), max(high, sum(p[1] for p in parts))
        assert found == pytest.approx((low, high), abs=1e-9)


# --- properties


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.51, 1.0])), min_size=1, max_size=30),
    st.integers(1, 40),
    st.sampled_from([1, 2]),
)
@settings(max_examples=30, deadline=None)
def test_any_items_give_a_curve_and_an_interval(
    items: list[tuple[bool, float]], bins: int, power: Any
) -> None:
    failed, scores = zip(*items, strict=True)
    curve = calibration_curve(failed, scores, bins=bins)
    assert 1 <= len(curve) <= min(bins, len(set(scores)))
    assert sum(each.n for each in curve) == len(items)
    assert all(each.n > 0 and each.low <= each.mean_score <= each.high for each in curve)
    assert all(one.high == other.low for one, other in itertools.pairwise(curve))
    together = calibration_curve(failed, scores, bins=bins, simultaneous=True)
    for one, other in zip(curve, together, strict=True):
        assert other.failure_rate.low <= one.failure_rate.low
        assert other.failure_rate.high >= one.failure_rate.high
        assert other.failure_rate.level == one.failure_rate.level == 0.95
    error = calibration_error(failed, scores, bins=bins, power=power)
    assert 0.0 <= error.low <= error.high <= 1.0
    assert math.isnan(error.point) or error.low <= error.point <= error.high
    assert not error.approximate


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random(300)
    failed = rng.random(300) < scores
    mixed = rng.permutation(300)
    one, other = calibration_error(failed, scores), calibration_error(failed[mixed], scores[mixed])
    assert (one.point, one.low, one.high) == pytest.approx((other.point, other.low, other.high), abs=1e-12)


def test_one_bin_has_the_exact_binomial_interval() -> None:
    # with one bin nothing is rounded: the largest error is the farther limit's
    found = calibration_error(np.arange(100) < 3, np.full(100, 0.2), bins=1)
    rate = failure_rate_unlike(3, 100)
    assert (found.low, found.high) == pytest.approx((0.2 - rate.high, 0.2 - rate.low), abs=1e-9)
    assert found.point == pytest.approx(0.17)


def test_jointly_is_narrower_than_bin_by_bin() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(5000)
    failed = rng.random(5000) < scores
    joint = calibration_error(failed, scores)
    curve = calibration_curve(failed, scores, simultaneous=True)
    each = sum(
        b.share * max(b.failure_rate.high - b.mean_score, b.mean_score - b.failure_rate.low) for b in curve
    )
    assert joint.high < 0.7 * each


def test_the_plain_point_is_biased_and_the_squared_one_is_not() -> None:
    rng = np.random.default_rng(4)
    plain, squared, refuted = [], [], 0
    for _ in range(300):
        scores = rng.uniform(0.3, 0.7, 200)
        failed = rng.random(200) < scores  # perfectly calibrated
        found = calibration_error(failed, scores, bins=5)
        plain.append(found.point)
        refuted += found.low > 0.0
        squared.append(calibration_error(failed, scores, bins=5, power=2).point)
    assert np.mean(plain) > 0.05
    assert refuted <= 0.05 * 300
    assert np.mean(squared) < 0.05**2  # clipped at 0, so not quite without bias


def test_an_error_that_is_there_is_found() -> None:
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.0, 0.4, 4000)
    found = calibration_error(rng.random(4000) < scores + 0.3, scores)
    assert 0.2 < found.low < 0.3 < found.high < 0.4


def test_weights_of_one_give_the_same_points() -> None:
    rng = np.random.default_rng(6)
    scores = rng.random(200)
    failed, ones = rng.random(200) < scores, np.ones(200)
    plain, weighted = (
        calibration_curve(failed, scores, w, 4, weight_bound=b) for w, b in ((None, None), (ones, 1))
    )
    for one, other in zip(plain, weighted, strict=True):
        assert (one.n, one.low, one.failure_rate.point) == (other.n, other.low, other.failure_rate.point)
        assert other.failure_rate.method == "betting"
    error = calibration_error(failed, scores, ones, 4, weight_bound=1.0)
    assert error.point == pytest.approx(calibration_error(failed, scores, bins=4).point)
    assert error.high > calibration_error(failed, scores, bins=4).high


# --- ties, empty bins, one item


def test_constant_scores_are_one_bin() -> None:
    (only,) = calibration_curve([0, 1, 1, 0], [0.3] * 4)
    assert (only.low, only.high, only.n, only.mean_score) == (0.3, 0.3, 4, 0.3)
    assert calibration_error([0, 1, 1, 0], [0.3] * 4).point == pytest.approx(0.2)


def test_one_item_and_all_failures() -> None:
    found = calibration_error([1], [0.9])
    assert found.point == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.0, 0.9 - 0.025), abs=1e-3)
    assert math.isnan(calibration_error([1], [0.9], power=2).point)  # a single item has no variance to see
    assert calibration_error(np.ones(1000), np.ones(1000)).low == 0.0


def test_zero_failures_in_a_bin_are_no_certainty() -> None:
    found = calibration_error(np.zeros(100), np.full(100, 0.0))
    assert found.point == found.low == 0.0
    assert found.high == pytest.approx(failure_rate_unlike(0, 100).high)


def test_empty_bins_between_given_edges() -> None:
    found = calibration_curve([0, 1], [0.05, 0.95], bins=[0.0, 0.1, 0.9, 1.0])
    assert [each.n for each in found] == [1, 0, 1]
    assert (found[1].failure_rate.low, found[1].failure_rate.high) == (0.0, 1.0)
    assert math.isnan(found[1].mean_score)
    assert math.isnan(found[1].failure_rate.point)
    weighted = calibration_curve([0, 1], [0.05, 0.95], [1.0, 2.0], [0.0, 0.1, 0.9, 1.0], weight_bound=2.0)
    assert weighted[1].failure_rate.high == 1.0
    assert calibration_error([0, 1], [0.05, 0.95], bins=[0.0, 0.1, 0.9, 1.0]).point == pytest.approx(0.05)


def test_json_and_back() -> None:
    for each in calibration_curve([0, 1], [0.05, 0.95], bins=[0.0, 0.1, 0.9, 1.0]):
        again = CalibrationBin.from_dict(json.loads(json.dumps(each.to_dict())))
        assert json.dumps(again.to_dict()) == json.dumps(each.to_dict())


def test_it_says_what_it_cannot_see() -> None:
    assumptions = calibration_error([0, 1, 1], [0.1, 0.5, 0.9]).assumptions
    assert any("averages out within a bin" in note for note in assumptions)
    assert any("biased upwards" in note for note in assumptions)


# --- misuse


@pytest.mark.parametrize("call", [calibration_curve, calibration_error])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"failed": [0, 2]}, DataError, r"failed must be 0 or 1, or booleans, got 2\."),
        ({"failed": [0, 1, 1]}, DataError, r"failed must have one value for each of the 2 items, got 3\."),
        ({"scores": [0.1, math.nan]}, DataError, r"scores must be finite, got nan\."),
        ({"scores": [0.1, 1.1]}, DataError, r"scores must lie in \[0, 1\], got 1\.1\. Give probabilities\."),
        ({"failed": [], "scores": []}, NotEnoughDataError, r"calibration needs labelled items, got none\."),
        (
            {"level": 95},
            ConfigError,
            r"level must lie strictly between 0 and 1, got 95\. Write 0\.95, not 95\.",
        ),
        ({"bins": 0}, ConfigError, r"bins must be at least 1, got 0\."),
        ({"bins": [0.5]}, ConfigError, r"bins must be two or more ascending edges, got \[0\.5\]\."),
        ({"bins": [0.0, 0.6, 0.5]}, ConfigError, r"bins must be two or more ascending edges.*"),
        ({"bins": [0.2, 1.0]}, DataError, r"scores must lie between the edges 0\.2 and 1, got 0\.1\."),
        ({"weights": [1.0, 2.0]}, ConfigError, r"weight_bound must be given with weights, got none\..*"),
        ({"weights": [1.0, 0.0], "weight_bound": 1.0}, DataError, r"weights must be positive, got 0\.0\."),
        ({"weights": [1.0, 2.0], "weight_bound": 1.5}, DataError, r"weights must not exceed weight_bound.*"),
        ({"weights": [1.0, math.inf], "weight_bound": 9.0}, DataError, r"weights must be finite, got inf\."),
    ],
)
def test_misuse_is_refused(call: Any, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        call(**{"failed": [0, 1], "scores": [0.1, 0.9], **change})


def test_other_powers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^power must be 1 or 2, got 3\.$"):
        calibration_error([0, 1], [0.1, 0.9], power=3)  # type: ignore[arg-type]


# --- coverage


def test_limits_of_unlike_items_hold_exactly() -> None:
    # the worst of unlike items: one that carries the whole mean, or all but one certain
    for level in (0.8, 0.95):
        for n in (2, 5, 12):
            found = [failure_rate_unlike(k, n, level) for k in range(n + 1)]
            for mean in np.linspace(0.001, 0.999, 150):
                for p in unlike(n, mean):
                    chance = poisson_binomial(p)
                    high = sum(c for c, each in zip(chance, found, strict=True) if each.high < mean - 1e-12)
                    low = sum(c for c, each in zip(chance, found, strict=True) if each.low > mean + 1e-12)
                    assert max(low, high) <= (1 - level) / 2 + 1e-12


def unlike(n: int, mean: float) -> list[Floats]:
    whole = int(n * mean)
    extreme = np.zeros(n)
    extreme[:whole] = 1.0
    if whole < n:
        extreme[whole] = n * mean - whole
    return [np.full(n, mean), extreme, 0.5 * (extreme + mean)]


def poisson_binomial(p: Floats) -> Floats:
    chance = np.ones(1)
    for each in p:
        chance = np.convolve(chance, [1 - each, each])
    return chance


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("top", "n"), [(1.0, 60), (0.05, 400)])
def test_coverage(power: Any, top: float, n: int) -> None:
    rng, rounds, covered, level = np.random.default_rng(7), 150, 0, 0.8
    edges = np.linspace(0, top, 5)
    for _ in range(rounds):
        scores = top * rng.random(n) ** 2
        chance = np.sqrt(scores * top)  # too low where scores are low
        where = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, 3)
        truth = sum(
            (where == b).mean() * abs((chance - scores)[where == b].mean()) ** power for b in np.unique(where)
        )
        covered += calibration_error(
            rng.random(n) < chance, scores, None, edges, level, power=power
        ).contains(truth)
    assert enough(covered, rounds, level)


def test_weighted_coverage() -> None:
    rng, rounds, covered, level = np.random.default_rng(8), 30, 0, 0.8
    edges = [0.0, 0.3, 1.0]
    for _ in range(rounds):
        scores, weights = rng.random(150), np.exp(rng.uniform(-3, 3, 150))
        chance = np.sqrt(scores)
        inside = scores < 0.3
        truth = sum(
            weights[part].sum()
            / weights.sum()
            * abs(np.average((chance - scores)[part], weights=weights[part]))
            for part in (inside, ~inside)
        )
        failed = rng.random(150) < chance
        covered += calibration_error(
            failed, scores, weights, edges, level, weight_bound=math.exp(3)
        ).contains(truth)
    assert enough(covered, rounds, level)


# --- speed


def test_a_million_items_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(9)
    scores = rng.beta(0.5, 8, 1_000_000)
    failed = rng.random(scores.size) < scores
    start = time.process_time()
    calibration_error(failed, scores)
    assert time.process_time() - start < 2
