"""The tag as a warning: how well the probability of a bad tag tells, before a sentence is written, that it will fail.

Tags are learnt as ordinary tokens, so that P(bad tag) at a sentence's beginning is there for nothing. It is judged as
any detector is: how it ranks (AUROC, average precision), whether it means what it says (calibration), and what it finds
at a rate of false alarms that one is ready to bear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.conditional.measuring.clusters import grouped
from fivenines.conditional.watching import calibrate_alarm
from fivenines.errors import NotEnoughDataError, sentence
from fivenines.stats import (
    Estimate,
    auroc,
    average_precision,
    calibration_error,
    mean_bounded,
    share_exact,
)
from fivenines.stats.betting import Items, betting_p_value
from fivenines.stats.checks import bool_array, check_level, check_rate, probability_array
from fivenines.threshold import threshold_grid

__all__ = ["Detection", "MeasuredAlarm", "alarm_at", "detection"]

_ONCE = "every prompt counts once, however many sentences it has"
_ALIKE = "the sentences are independent draws"
_PROMPTS = "prompts are independent draws"


@dataclass(frozen=True, slots=True)
class MeasuredAlarm:
    """A sentence whose tag has a probability higher than ``above`` raises an alarm.

    ``most`` false alarms were asked for, a share of the sentences that do not fail, and hold at ``confidence`` over the
    sentences that ``above`` was chosen on. ``found`` (of the failing sentences) and ``false_alarms`` are on those too.
    """

    above: float
    most: float
    confidence: float
    found: Estimate
    false_alarms: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "above": self.above,
            "most": self.most,
            "confidence": self.confidence,
            "found": self.found.to_dict(),
            "false_alarms": self.false_alarms.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or DataError for what is none."""
        estimates = {name: Estimate.from_dict(data[name]) for name in ("found", "false_alarms")}
        return cls(data["above"], data["most"], data["confidence"], **estimates)


@dataclass(frozen=True, slots=True)
class Detection:
    """What :func:`detection` finds. ``alarms``: only those that so many sentences can promise."""

    sentences: int
    failures: int
    auroc: Estimate
    average_precision: Estimate
    calibration_error: Estimate
    alarms: tuple[MeasuredAlarm, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sentences": self.sentences,
            "failures": self.failures,
            "auroc": self.auroc.to_dict(),
            "average_precision": self.average_precision.to_dict(),
            "calibration_error": self.calibration_error.to_dict(),
            "alarms": [alarm.to_dict() for alarm in self.alarms],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or DataError for what is none."""
        names = ("auroc", "average_precision", "calibration_error")
        estimates = {name: Estimate.from_dict(data[name]) for name in names}
        alarms = tuple(MeasuredAlarm.from_dict(each) for each in data["alarms"])
        return cls(data["sentences"], data["failures"], **estimates, alarms=alarms)


def detection(
    failed: ArrayLike,
    tag: ArrayLike,
    prompts: Sequence[str] | None = None,
    *,
    false_alarms: Sequence[float] = (0.01, 0.05),
    level: float = 0.95,
    seed: int = 0,
) -> Detection:
    """How well the probability of a bad tag foretells that its sentence fails.

    Args:
        failed: whether each sentence fails, shape (n,).
        tag: P(bad tag) where it begins, read before any tag was banned or set, shape (n,), in [0, 1].
        prompts: what each was written for: sentences of one prompt are not independent and are resampled together. The
        calibration error is then that of one sentence a prompt, drawn with ``seed``.
        false_alarms: shares of the good sentences that may raise an alarm; :func:`alarm_at` for each.

    Raises:
        NotEnoughDataError: no failing or no good sentence, or either in fewer than two prompts.
        DataError: arrays that do not fit together, or probabilities outside [0, 1].
        ConfigError: a level or share outside (0, 1).
    """
    scores = probability_array(tag, "tag")
    answers = bool_array(failed, "failed", scores.size)
    groups = None if prompts is None else grouped(prompts, scores.size)
    area, precision = (
        measure(answers, scores, clusters=groups, level=level, seed=seed)
        for measure in (auroc, average_precision)
    )
    one = np.arange(scores.size) if groups is None else _one_of_each(groups, seed)
    error = calibration_error(answers[one], scores[one], level=level)
    alarms = []
    for most in false_alarms:
        try:
            alarms.append(alarm_at(answers, scores, most, prompts, level=level))
        except NotEnoughDataError:
            continue
    return Detection(scores.size, int(answers.sum()), area, precision, error, tuple(alarms))


def alarm_at(
    failed: ArrayLike,
    tag: ArrayLike,
    most: float,
    prompts: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    level: float = 0.95,
) -> MeasuredAlarm:
    """The lowest alarm at which no more than ``most`` of the good sentences raise one, with ``confidence``.

    Without ``prompts``, or one good sentence for each: :func:`fivenines.conditional.watching.calibrate_alarm`, exact.
    Where prompts have several, these are not independent: the units are then the prompts, every prompt counts once, and
    Learn then Test (arXiv 2110.01052) goes from the highest value downwards on a grid that is geometric in the odds and
    was fixed beforehand, until bets on the prompts' shares no longer show ``most`` at most.

    Raises:
        NotEnoughDataError: too few good sentences to promise that at any value.
        DataError: arrays that do not fit together, or probabilities outside [0, 1].
        ConfigError: ``most``, ``confidence`` or ``level`` outside (0, 1).
    """
    check_rate(most, "false alarms")
    check_level(confidence, "confidence")
    scores = probability_array(tag, "tag")
    answers = bool_array(failed, "failed", scores.size)
    groups = grouped(prompts, scores.size)
    good = _Side(scores[~answers], groups[~answers])
    bad = _Side(scores[answers], groups[answers])
    if good.alone:
        above = calibrate_alarm(good.scores, most, confidence=confidence).level
    else:
        above = _clustered_alarm(good, most, 1.0 - confidence)
    return MeasuredAlarm(
        above,
        most,
        confidence,
        bad.rate(above, level, "failing sentences found"),
        good.rate(above, level, "false alarms"),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """The good sentences, or the failing ones; ``groups``: the number of the prompt of each."""

    scores: NDArray[np.float64]
    groups: NDArray[np.intp]

    @property
    def alone(self) -> bool:
        """Whether each sentence has a prompt of its own, or none."""
        return np.unique(self.groups).size == self.groups.size

    def shares(self, above: float) -> NDArray[np.float64]:
        """The share of each prompt's sentences that raise an alarm, shape (prompts,)."""
        number = np.unique(self.groups, return_inverse=True)[1]
        hits: NDArray[np.float64] = np.bincount(number, self.scores > above) / np.bincount(number)
        return hits

    def rate(self, above: float, level: float, what: str) -> Estimate:
        if self.alone:
            found = share_exact(int((self.scores > above).sum()), self.scores.size, level, what=what)
            return replace(found, assumptions=(_ALIKE,))
        found = mean_bounded(self.shares(above), (0.0, 1.0), level=level, what=what)
        return replace(found, method="betting, by prompt", assumptions=(_ONCE, _PROMPTS))


def _clustered_alarm(good: _Side, most: float, tail: float) -> float:
    """The last value of the falling grid at which a bet refutes "more than ``most``"."""
    grid = 1.0 - threshold_grid()
    passing, failing = -1, grid.size  # p-values rise along the grid, since ever more sentences raise an alarm
    while failing - passing > 1:
        middle = (passing + failing) // 2
        shares = good.shares(float(grid[middle]))
        p = betting_p_value(Items(shares, np.ones(shares.size), 1.0, 1.0, "mean"), most)
        passing, failing = (middle, failing) if p <= tail else (passing, middle)
    if passing < 0:
        then = "Give good sentences of more prompts, or allow more false alarms."
        must = f"must be enough to show a rate of false alarms of {most:g}"
        raise NotEnoughDataError(sentence("prompts of good sentences", must, int(shares.size), then))
    return float(grid[passing])


def _one_of_each(groups: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """The place of one sentence of each prompt, at random."""
    order = np.random.default_rng(seed).permutation(groups.size)
    return order[np.unique(groups[order], return_index=True)[1]]
