"""Thresholds: what they accept, what they promise, and when they refuse."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.records import Answer, Judgment
from fivenines.threshold import (
    QualityCost,
    Threshold,
    answers_array,
    choose_threshold,
    fixed_threshold,
    threshold_grid,
)

RNG = np.random.default_rng(3)


def sample(rng: np.random.Generator, failures: int, oks: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores of failures are Beta(4, 1), so that the miss rate at t is t ** 4; of the rest Beta(1, 4)."""
    scores = np.concatenate([rng.beta(4, 1, failures), rng.beta(1, 4, oks)])
    return scores, np.arange(failures + oks) < failures


# --- the object


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1), st.floats(0, 1))
def test_accepts_below_the_value_and_never_nan(scores: list[float], value: float) -> None:
    accepted = fixed_threshold(value).accepts(scores)
    assert accepted.dtype == np.bool_
    assert accepted.tolist() == [not math.isnan(score) and score < value for score in scores]


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold must lie in \[0, 1\]"):
        fixed_threshold(value)


def test_zero_is_a_threshold_that_accepts_nothing() -> None:
    assert not fixed_threshold(0.0).accepts([0.0, 0.5]).any()
    assert str(fixed_threshold(0.0)) == "threshold 0: set by hand"


def test_survives_json() -> None:
    scores, failed = sample(RNG, 400, 4000)
    threshold = choose_threshold(scores, failed, max_miss_rate=0.01)
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold
    with pytest.raises(DataError, match="threshold must have the keys of to_dict"):
        Threshold.from_dict({"value": 0.5, "rule": "x", "colour": "red"})


def test_says_how_it_was_chosen() -> None:
    scores, failed = sample(np.random.default_rng(1), 400, 3600)
    text = str(choose_threshold(scores, failed, max_miss_rate=0.05))
    assert "miss rate at most 0.05 with 95% confidence (Learn then Test)" in text
    assert "of 400 calibration failures" in text
    assert "of 4,000 calibration snippets" in text


# --- the guarantee


def walked(failure_scores: NDArray[Any], max_miss_rate: float, confidence: float) -> float | None:
    """Fixed sequence testing, one threshold after the other, with scipy's binomial."""
    chosen = None
    for threshold in threshold_grid():
        misses = int((failure_scores < threshold).sum())
        if stats.binom.cdf(misses, failure_scores.size, max_miss_rate) > 1 - confidence:
            break
        chosen = float(threshold)
    return chosen


@pytest.mark.parametrize(
    ("failures", "max_miss_rate", "confidence"), [(400, 0.01, 0.95), (300, 0.2, 0.9), (80, 0.05, 0.98)]
)
def test_agrees_with_a_walk_along_the_grid(failures: int, max_miss_rate: float, confidence: float) -> None:
    scores, failed = sample(np.random.default_rng(failures), failures, 1000)
    expected = walked(scores[failed], max_miss_rate, confidence)
    if expected is None:
        with pytest.raises(NotEnoughDataError):
            choose_threshold(scores, failed, max_miss_rate=max_miss_rate, confidence=confidence)
    else:
        found = choose_threshold(scores, failed, max_miss_rate=max_miss_rate, confidence=confidence)
        assert found.value == expected


def test_mapie_finds_the_same_up_to_its_looser_p_values() -> None:
    scores, failed = sample(np.random.default_rng(11), 2000, 8000)

    def proba(column: ArrayLike) -> NDArray[Any]:
        score = np.asarray(column)[:, 0]
        return np.column_stack([1 - score, score])

    # MAPIE predicts "failure" at score >= parameter and wants the parameters in the order of testing.
    controller = BinaryClassificationController(
        proba,
        "recall",
        target_level=0.98,
        confidence_level=0.95,
        list_predict_params=threshold_grid(),
        fwer_method="fixed_sequence",
    )
    controller.calibrate(scores[:, None], failed.astype(int))
    theirs = float(np.max(controller.valid_predict_params))
    ours = choose_threshold(scores, failed, max_miss_rate=0.02).value
    assert theirs <= ours <= 1.15 * theirs


@pytest.mark.parametrize("weighted", [False, True])
def test_the_promise_holds_at_the_stated_confidence(weighted: bool) -> None:
    rng, broken, rounds = np.random.default_rng(5), 0, 150 if weighted else 600
    for _ in range(rounds):
        if weighted:  # failures with low scores are sampled 4 times as often
            pool = rng.beta(4, 1, 1500)
            keep = rng.random(pool.size) < np.where(pool < 0.6, 0.8, 0.2)
            scores, weights = pool[keep], np.where(pool[keep] < 0.6, 1.25, 5.0)
            threshold = choose_threshold(
                scores, np.ones(scores.size, bool), max_miss_rate=0.05, confidence=0.9, weights=weights
            )
        else:
            scores = rng.beta(4, 1, 400)
            threshold = choose_threshold(scores, np.ones(400, bool), max_miss_rate=0.05, confidence=0.9)
        broken += threshold.value**4 > 0.05  # the true miss rate
    assert broken / rounds <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / rounds)
    if not weighted:  # and is not far too strict
        assert broken / rounds >= 0.02


@pytest.mark.parametrize(("failures", "more"), [(2994, 1), (2995, 0), (0, 2995), (300, 2695)])
def test_says_how_many_more_failures_are_needed(failures: int, more: int) -> None:
    scores, failed = np.full(failures + 10, 0.9), np.arange(failures + 10) < failures
    if not more:
        assert choose_threshold(scores, failed, max_miss_rate=0.001).misses == 0
        return
    with pytest.raises(NotEnoughDataError, match=f"{more:,} more failures needed, if all") as refusal:
        choose_threshold(scores, failed, max_miss_rate=0.001)
    assert refusal.value.more_needed == more


def test_more_needed_counts_what_no_threshold_catches() -> None:
    scores = np.concatenate([[0.0, 0.0], np.full(100, 0.9)])
    with pytest.raises(NotEnoughDataError, match="2 missed at the strictest") as refusal:
        choose_threshold(scores, np.ones(102, bool), max_miss_rate=0.05)
    more = refusal.value.more_needed
    assert more is not None
    grown = np.concatenate([scores, np.full(more, 0.9)])
    assert choose_threshold(grown, np.ones(grown.size, bool), max_miss_rate=0.05).misses == 2
    with pytest.raises(NotEnoughDataError):
        choose_threshold(grown[:-1], np.ones(grown.size - 1, bool), max_miss_rate=0.05)


def test_more_needed_with_weights_is_enough() -> None:
    weights = np.tile([1.0, 4.0], 40)
    with pytest.raises(NotEnoughDataError, match="more failures needed") as refusal:
        choose_threshold(np.full(80, 0.9), np.ones(80, bool), max_miss_rate=0.02, weights=weights)
    more = refusal.value.more_needed
    assert more is not None
    grown = np.concatenate([weights, np.full(more, 2.5)])
    scores, failed = np.full(grown.size, 0.9), np.ones(grown.size, bool)
    assert choose_threshold(scores, failed, max_miss_rate=0.02, weights=grown).misses == 0


@given(st.integers(0, 2**32 - 1))
def test_more_tolerance_never_gives_a_stricter_threshold(seed: int) -> None:
    scores, failed = sample(np.random.default_rng(seed), 200, 100)
    values = [choose_threshold(scores, failed, max_miss_rate=rate).value for rate in (0.02, 0.05, 0.2)]
    assert values == sorted(values)


# --- unsure, missing and broken input


def test_unsure_counts_as_failure_unless_dropped() -> None:
    judgments = [Judgment("s", Answer.FAILURE), Judgment("t", Answer.UNSURE), Judgment("u", Answer.OK)]
    assert answers_array(judgments).tolist() == [1, 1, 0]
    dropped = answers_array(judgments, unsure="drop")
    assert dropped[0] == 1
    assert math.isnan(dropped[1])
    scores = [0.9, 0.2, 0.1] * 50
    kept = choose_threshold(scores, judgments * 50, max_miss_rate=0.05)
    assert (kept.failures, kept.unsure) == (100, 50)
    assert kept.value <= 0.2
    assert "50 unsure answers count as failures" in kept.assumptions
    narrowed = choose_threshold(scores * 2, np.tile(dropped, 100), max_miss_rate=0.05)
    assert narrowed.failures == 100
    assert narrowed.value > 0.8


def test_a_failure_without_a_score_counts_as_caught() -> None:
    found = choose_threshold(np.full(60, np.nan), np.ones(60, bool), max_miss_rate=0.05)
    assert (found.failures, found.misses) == (60, 0)


@pytest.mark.parametrize(
    ("kind", "message", "arguments"),
    [
        (DataError, "scores must lie in", {"scores": [0.5, 1.5], "answers": [True, False]}),
        (DataError, "answers must have one for each of 2 scores", {"scores": [0.5, 0.5], "answers": [True]}),
        (DataError, "answers must be true, false", {"scores": [0.5], "answers": [2]}),
        (DataError, "answers must be failure, ok or unsure", {"scores": [0.5], "answers": ["bad"]}),
        (DataError, "scores must be a flat list", {"scores": [], "answers": []}),
        (DataError, "weights must be finite", {"scores": [0.5], "answers": [1], "weights": [math.inf]}),
        (DataError, "weights must not all be zero", {"scores": [0.5], "answers": [1], "weights": [0.0]}),
        (ConfigError, r"Write 0\.95, not 95", {"scores": [0.5], "answers": [1], "confidence": 95}),
        (ConfigError, "max_miss_rate must lie", {"scores": [0.5], "answers": [1], "max_miss_rate": 0.0}),
    ],
)
def test_broken_input_is_refused(kind: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(kind, match=message):
        choose_threshold(**{"max_miss_rate": 0.1, **arguments})


def test_a_rule_is_needed() -> None:
    with pytest.raises(ConfigError, match="choose_threshold must have a rule"):
        choose_threshold([0.5], [True])


# --- acceptance and quality


@given(st.lists(st.floats(0, 0.99), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_acceptance_is_met_and_hardly_exceeded(scores: list[float], share: float) -> None:
    threshold = choose_threshold(scores, acceptance=share)
    accepted = threshold.accepts(scores).mean()
    assert accepted >= share - 1e-9
    just_below = np.sort(scores)[np.sort(scores) < np.max(np.asarray(scores)[threshold.accepts(scores)])]
    assert just_below.size / len(scores) < share + 1e-9  # without the last accepted score it would be too few


def test_acceptance_weighs_an_oversampled_pool() -> None:
    scores = np.concatenate([np.full(90, 0.8), np.full(10, 0.1)])
    weights = np.concatenate([np.full(90, 1.0), np.full(10, 81.0)])  # in the population 90% score 0.1
    assert choose_threshold(scores, acceptance=0.85, weights=weights).value < 0.2
    assert choose_threshold(scores, acceptance=0.85).value > 0.8


def test_acceptance_cannot_include_what_has_no_score() -> None:
    with pytest.raises(ConfigError, match="acceptance must leave out what has score 1 or no score"):
        choose_threshold([0.1, math.nan], acceptance=0.9)


def test_quality_cost_is_rejection_times_what_a_rejection_costs() -> None:
    scores = np.linspace(0, 0.999, 1000)
    worst = choose_threshold(scores, quality_cost=0.02)
    assert worst.accepts(scores).mean() == pytest.approx(0.96)
    assert "quality cost 0.02 at worst" in worst.rule
    known = choose_threshold(scores, quality_cost=QualityCost(0.02, preferred=0.45))
    assert known.accepts(scores).mean() == pytest.approx(0.6)
    with pytest.raises(ConfigError, match="At a half or more no rejection costs quality"):
        QualityCost(0.02, preferred=0.5)
    with pytest.raises(ConfigError, match=r"quality_cost must lie strictly between 0 and 0\.5"):
        choose_threshold(scores, quality_cost=0.5)


def test_both_rules_give_the_strictest_that_satisfies_both() -> None:
    scores, failed = sample(np.random.default_rng(2), 600, 5400)
    alone = choose_threshold(scores, failed, max_miss_rate=0.05)
    both = choose_threshold(scores, failed, max_miss_rate=0.05, acceptance=0.5)
    assert both.value < alone.value
    assert both.accepts(scores).mean() == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ConfigError, match="threshold must satisfy both rules"):
        choose_threshold(scores, failed, max_miss_rate=0.02, acceptance=0.99)
