"""What to label next from a file of scored texts, and the failure rate that the labels of such a batch give.

The record of how a batch was chosen (:class:`Choice`) is kept beside it: which lines could have been taken, with which
probability each, and their scores. So the labels serve whoever holds the two files, without this project's store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from fivenines.acquisition import AcquisitionConfig, acquisition_design
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats import Estimate
from fivenines.stats.assisted import (
    POOL,
    failure_rate_assisted,
    failure_rate_hajek,
    failure_rate_horvitz_thompson,
)
from fivenines.stats.checks import LARGEST_WHOLE, check_rate, probability_array, value_array, whole_array
from fivenines.stats.designs import (
    Design,
    design_active,
    design_near_threshold,
    design_stratified,
    design_uniform,
    log_odds,
    stratum_numbers,
)
from fivenines.stats.stratified import failure_rate_stratified

__all__ = ["Choice", "DesignName", "choose_batch", "rates_of_batch"]

DesignName = Literal["active", "uniform", "near", "next", "stratified"]
_STRATA = 5
_EDGE = 1e-12

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """How a batch was chosen from a pool: lines of the file (pool,), their scores, the design, what it took."""

    lines: NDArray[np.int64]  # numbered from 1, as an editor shows them; ascending
    scores: NDArray[np.float64]
    design: Design
    chosen: NDArray[np.int64]  # (labels,), ascending

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        strata = self.design.strata
        return {
            "design": self.design.name,
            "floor": self.design.floor,
            "chosen": self.chosen.tolist(),
            "lines": self.lines.tolist(),
            "scores": self.scores.tolist(),
            "inclusion": self.design.inclusion.tolist(),
            "strata": None if strata is None else strata.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is missing, or values that no design could have.
        """
        try:
            lines = whole_array(data["lines"], "lines")
            chosen = whole_array(data["chosen"], "chosen")
            scores = probability_array(data["scores"], "scores", lines.size)
            inclusion = value_array(data["inclusion"], "inclusion", lines.size)
            strata = None if data["strata"] is None else whole_array(data["strata"], "strata", lines.size)
            if strata is not None and strata.max(initial=0) >= lines.size:
                raise DataError(sentence("strata", f"must be numbers below {lines.size}", int(strata.max())))
            design = Design(inclusion, float(data["floor"]), str(data["design"]), strata)
        except (KeyError, TypeError, ValueError) as wrong:
            raise DataError(
                sentence("the record of a batch", "must be as it was written", str(wrong))
            ) from wrong
        if (np.diff(lines) <= 0).any() or (np.diff(chosen) <= 0).any() or not np.isin(chosen, lines).all():
            then = "Take the file that fivenines sample wrote."
            must = "must name lines in ascending order, and choose among them"
            raise DataError(sentence("the record of a batch", must, "others", then))
        return cls(lines, scores, design, chosen)


def choose_batch(
    rows: Sequence[Row],
    labels: int,
    name: DesignName | str = "active",
    *,
    accepted_below: float | None = None,
    near: float | None = None,
    uniform: float = 0.2,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> tuple[Choice, list[dict[str, Any]]]:
    """Lines to label, in random order, with ``line``, ``inclusion`` and an empty ``failure`` added.

    Args:
        rows: each with a ``score``, P(failure).
        labels: how many to be expected; the coins of a design give some more or fewer.
        name: a design of :mod:`fivenines.stats.designs`. "stratified" takes equal numbers of five strata of
            log odds of equal width. "next" looks at what is accepted near the threshold and, where lines have a
            ``disagreement`` of several classifiers, at that (:mod:`fivenines.acquisition`).
        accepted_below: take the pool of what this threshold accepts alone; the rate is then that of such text.
            A text without a score is never accepted.
        near: the threshold for "near" and "next"; None: ``accepted_below``.
        uniform: share of the labels that looks everywhere ("active", "near", "next").
        numbers: of the lines, ascending; None: from 1 on.

    Raises:
        DataError: a line without a score or with one outside [0, 1].
        NotEnoughDataError: nothing to choose from, or fewer lines than labels.
        ConfigError: an unknown design, "near" or "next" without a threshold, or a threshold for it with another design.
    """
    line = np.arange(1, len(rows) + 1) if numbers is None else np.asarray(numbers, dtype=np.int64)
    scores = _scores(rows, line, missing_allowed=accepted_below is not None)
    kept = np.arange(scores.size)
    if accepted_below is not None:
        kept = np.flatnonzero(scores < check_rate(accepted_below, "threshold"))  # NaN is not below
    if kept.size < labels:
        message = sentence("the pool", f"must hold at least the {labels} texts to label", int(kept.size))
        raise NotEnoughDataError(message, labels - int(kept.size))
    threshold = _threshold(name, near, accepted_below)
    if name == "next":
        doubt = _disagreement([rows[place] for place in kept.tolist()], line[kept])
        config = AcquisitionConfig(random_share=uniform)
        design = acquisition_design(scores[kept], threshold, labels, disagreement=doubt, config=config)
    else:
        design = _design(scores[kept], labels, name, threshold, uniform)
    taken = design.draw(seed)
    order = np.random.default_rng([seed, 1]).permutation(taken)
    batch = [
        {
            **rows[kept[place]],
            "line": int(line[kept[place]]),
            "inclusion": float(design.inclusion[place]),
            "failure": None,
        }
        for place in order
    ]
    return Choice(line[kept], scores[kept], design, line[kept[taken]]), batch


def rates_of_batch(batch: Sequence[Row], choice: Choice, level: float = 0.95) -> list[Estimate]:
    """The failure rate of the pool, by each method that fits the design; the most precise first as a rule.

    Args:
        batch: lines of :func:`choose_batch` with ``failure`` filled in. All of them: to leave out what nobody could
            judge would bias the rate. Answer true where in doubt.

    Raises:
        DataError: a line that was not chosen, twice, or without an answer; lines that were chosen and are missing.
    """
    failed = np.array([_answer(row) for row in batch], dtype=np.bool_)
    lines = np.array([_line(row) for row in batch], dtype=np.int64)
    _check_whole(lines, choice)
    place = np.searchsorted(choice.lines, lines)
    design = choice.design
    if design.strata is not None:
        sizes = np.bincount(design.strata)
        n = np.bincount(design.strata[place], minlength=sizes.size)
        k = np.bincount(design.strata[place], weights=failed, minlength=sizes.size)
        found = failure_rate_stratified(k, n, sizes / sizes.sum(), level)
        return [found.named(found.what, POOL)]
    pi = design.inclusion[place]
    return [
        failure_rate_assisted(design, choice.scores, place, failed, level),
        failure_rate_hajek(failed, pi, design.floor, level),
        failure_rate_horvitz_thompson(failed, pi, choice.lines.size, design.floor, level),
    ]


def _check_whole(lines: NDArray[np.int64], choice: Choice) -> None:
    """The lines that were chosen, each once."""
    strange, absent = np.setdiff1d(lines, choice.chosen), np.setdiff1d(choice.chosen, lines)
    if strange.size:
        raise DataError(
            sentence("the batch", "must hold the lines that were chosen", f"line {int(strange[0])}")
        )
    if absent.size:
        must = f"must hold all {choice.chosen.size} lines that were chosen"
        raise DataError(sentence("the batch", must, f"{absent.size} fewer, line {int(absent[0])} among them"))
    if np.unique(lines).size < lines.size:
        raise DataError(sentence("the batch", "must hold each line once", f"{lines.size} with repeats"))


def _threshold(name: str, near: float | None, accepted_below: float | None) -> float:
    """The one that a design looks at; NaN for those that look at none."""
    if name not in ("near", "next"):
        if near is not None:
            raise ConfigError(sentence("near", "must come with the design near or next", name))
        return math.nan
    threshold = accepted_below if near is None else near
    if threshold is None:
        raise ConfigError(sentence(f"design {name}", "needs a threshold", "none"))
    return threshold


def _design(scores: NDArray[np.float64], labels: int, name: str, threshold: float, uniform: float) -> Design:
    if name == "uniform":
        return design_uniform(scores.size, labels)
    if name == "active":
        return design_active(scores, labels, uniform=uniform)
    if name == "near":
        return design_near_threshold(scores, threshold, labels, uniform=uniform)
    if name != "stratified":
        raise ConfigError(sentence("design", f"must be one of {', '.join(get_args(DesignName))}", name))
    odds = log_odds(np.clip(scores, _EDGE, 1 - _EDGE))  # a score of 0 must not stretch the strata
    edges = np.unique(np.linspace(odds.min(), odds.max(), _STRATA + 1)[1:-1])
    strata = np.unique(stratum_numbers(odds, edges), return_inverse=True)[1]  # those that hold anything
    return design_stratified(strata, labels)


def _scores(rows: Sequence[Row], lines: NDArray[np.int64], *, missing_allowed: bool) -> NDArray[np.float64]:
    found = np.full(len(rows), np.nan)
    for number, row in enumerate(rows):
        score = row.get("score")
        if score is None and missing_allowed:
            continue
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
            then = "Run fivenines score first."
            raise DataError(sentence(f"line {lines[number]}", "must have a score in [0, 1]", score, then))
        found[number] = score
    return found


def _disagreement(rows: Sequence[Row], lines: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Of each line, NaN where it has none; None where no line has any."""
    found = np.full(len(rows), np.nan)
    for number, row in enumerate(rows):
        value = row.get("disagreement")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
            must = "must have a disagreement of 0 or more"
            raise DataError(sentence(f"line {lines[number]}", must, value))
        found[number] = value
    return None if np.isnan(found).all() else found


def _answer(row: Row) -> bool:
    failure = row.get("failure")
    if failure not in (0, 1):  # True and False are; None is not
        then = "Answer every line that was chosen, true where in doubt."
        raise DataError(sentence(f"line {row.get('line')}", "must have failure true or false", failure, then))
    return bool(failure)


def _line(row: Row) -> int:
    line = row.get("line")
    if isinstance(line, bool) or not isinstance(line, int) or not 0 <= line <= LARGEST_WHOLE:
        raise DataError(sentence("a line of the batch", "must keep its number in `line`", line))
    return line
