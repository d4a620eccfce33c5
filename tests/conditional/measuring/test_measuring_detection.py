"""The tag as a warning: rankings as in the statistics, alarms whose rate of false alarms holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special

from fivenines.conditional.measuring.detection import Detection, alarm_at, detection
from fivenines.conditional.watching import calibrate_alarm
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import auroc, average_precision, calibration_error
from fivenines.threshold import choose_threshold


def sentences(rng: np.random.Generator, n: int, rate: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities of the tag, and whether the sentence failed."""
    tag = special.expit(rng.normal(math.log(rate), 1.5, n))
    return rng.random(n) < tag, tag


def test_it_says_what_the_statistics_say() -> None:
    failed, tag = sentences(np.random.default_rng(0), 2000)
    found = detection(failed, tag)
    assert found.auroc == auroc(failed, tag)
    assert found.average_precision == average_precision(failed, tag)
    assert found.calibration_error == calibration_error(failed, tag)
    assert found.calibration_error.low < 0.01
    assert (found.sentences, found.failures) == (2000, int(failed.sum()))
    assert [alarm.most for alarm in found.alarms] == [0.01, 0.05]
    assert found.alarms[0].above > found.alarms[1].above
    assert found.alarms[0].found.point < found.alarms[1].found.point
    assert Detection.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_alarm_is_that_of_the_threshold_with_sides_exchanged() -> None:
    failed, tag = sentences(np.random.default_rng(1), 3000)
    alarm = alarm_at(failed, tag, 0.02)
    assert alarm.above == calibrate_alarm(tag[~failed], 0.02).level
    twin = choose_threshold(1.0 - tag, ~failed, max_miss_rate=0.02)  # on a grid of steps of 2%
    assert special.logit(alarm.above) == pytest.approx(special.logit(1.0 - twin.value), abs=0.05)
    assert alarm.false_alarms.point == pytest.approx(np.mean(tag[~failed] > alarm.above))
    assert alarm.found.point == pytest.approx(np.mean(tag[failed] > alarm.above))
    assert alarm.false_alarms.point <= 0.02


def test_the_promise_holds_for_single_sentences() -> None:
    """Good sentences score uniformly: the true rate of false alarms is 1 - value."""
    rng, rounds, broken = np.random.default_rng(2), 300, 0
    for _ in range(rounds):
        scores = rng.random(400)
        failed = np.zeros(400, dtype=bool)
        failed[:20] = True
        broken += 1.0 - alarm_at(failed, scores, 0.05, confidence=0.9).above > 0.05
    assert broken / rounds <= 0.1 + 3 * math.sqrt(0.09 / rounds)


def test_the_promise_holds_by_prompt() -> None:
    """All sentences of a prompt have one score: independent they are not."""
    rng, rounds, broken = np.random.default_rng(3), 100, 0
    prompts = [f"p{i // 5}" for i in range(1000)]
    failed = np.tile([True, False, False, False, False], 200)
    for _ in range(rounds):
        scores = np.repeat(rng.random(200), 5)
        broken += 1.0 - alarm_at(failed, scores, 0.1, prompts, confidence=0.9).above > 0.1
    assert broken / rounds <= 0.1 + 3 * math.sqrt(0.09 / rounds)


def test_sentences_of_a_prompt_count_together() -> None:
    rng = np.random.default_rng(4)
    failed, tag = sentences(rng, 1500, 0.3)
    prompts = [f"p{i // 5}" for i in range(1500)]
    found = detection(failed, tag, prompts)
    assert "300 clusters" in found.auroc.assumptions[1]
    assert found.calibration_error.n == 300
    assert found.alarms[-1].false_alarms.method == "betting, by prompt"
    alone = detection(failed, tag, [str(i) for i in range(1500)])
    assert alone.calibration_error.n == 1500
    assert alone.alarms[-1].false_alarms.method == "exact binomial"


def test_too_few_sentences_promise_nothing() -> None:
    failed, tag = np.array([True, True, False, False, False]), np.array([0.9, 0.8, 0.1, 0.2, 0.3])
    assert detection(failed, tag).alarms == ()
    with pytest.raises(NotEnoughDataError, match="an alarm needs 299 good texts"):
        alarm_at(failed, tag, 0.01)
    with pytest.raises(NotEnoughDataError, match="prompts of good sentences must be enough to show"):
        alarm_at(failed, tag, 0.01, ["a", "b", "a", "a", "b"])
    with pytest.raises(NotEnoughDataError, match="at least one failure"):
        detection([0, 0], [0.1, 0.2])


def test_what_it_refuses() -> None:
    with pytest.raises(DataError, match=r"tag must lie in \[0, 1\]"):
        detection([1, 0], [1.5, 0.2])
    with pytest.raises(DataError, match="clusters must have one for each of 2 items"):
        detection([1, 0], [0.5, 0.2], ["a"])
    with pytest.raises(ConfigError, match="false alarms must lie strictly between 0 and 1"):
        alarm_at([1, 0], [0.5, 0.2], 5.0)
