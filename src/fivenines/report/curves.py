"""Summaries for plots, counted once from scores and answers: a report needs neither model nor texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import DataError, sentence
from fivenines.stats import Estimate, calibration_curve

__all__ = ["Reliability", "ReliabilityBin", "ScoreCounts"]

_EDGE = 1e-6  # scores beyond count in the outermost bin
_BINS = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The snippets of one range of scores: their mean score and the share of failures among them."""

    score: float
    rate: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether a score means what it says: the share of failures by score, on snippets not trained on."""

    bins: tuple[ReliabilityBin, ...]
    n: int
    failures: int

    @classmethod
    def of(cls, scores: ArrayLike, failed: ArrayLike, *, level: float = 0.95) -> Self:
        """From scores and whether each snippet is a failure, shapes (n,). Scores that are NaN are left out.

        The ranges are finer towards 0, where most scores lie. Each rate has an exact interval.

        Raises:
            DataError: the two differ in length, or a score lies outside [0, 1].
        """
        score, answer = _paired(scores, failed)
        found = calibration_curve(answer, score, bins=_BINS, level=level) if len(score) else ()
        bins = tuple(ReliabilityBin(each.mean_score, each.failure_rate) for each in found if each.n)
        return cls(bins, len(score), int(answer.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        bins = [{"score": item.score, "rate": item.rate.to_dict()} for item in self.bins]
        return {"bins": bins, "n": self.n, "failures": self.failures}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        bins = tuple(ReliabilityBin(b["score"], Estimate.from_dict(b["rate"])) for b in data["bins"])
        return cls(bins, data["n"], data["failures"])


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """How many failures and ok snippets have each score. ``edges`` are steps of equal odds, one more."""

    edges: tuple[float, ...]
    failures: tuple[int, ...]
    oks: tuple[int, ...]

    @classmethod
    def of(cls, scores: ArrayLike, failed: ArrayLike, bins: int = 40) -> Self:
        """Count over the range that the scores take; arguments and errors as :meth:`Reliability.of`."""
        score, answer = _paired(scores, failed)
        odds = _log_odds(score)
        low, high = (float(odds.min()), float(odds.max())) if odds.size else (-1.0, 1.0)
        steps = np.linspace(low - 0.1, high + 0.1, bins + 1)
        counts = [np.histogram(odds[answer == kind], steps)[0].tolist() for kind in (True, False)]
        return cls(tuple((1 / (1 + np.exp(-steps))).tolist()), tuple(counts[0]), tuple(counts[1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"edges": list(self.edges), "failures": list(self.failures), "oks": list(self.oks)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(tuple(data["edges"]), tuple(data["failures"]), tuple(data["oks"]))


def _log_odds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(score, _EDGE, 1 - _EDGE)
    odds: NDArray[np.float64] = np.log(inside / (1 - inside))
    return odds


def _paired(scores: ArrayLike, failed: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, answer = np.asarray(scores, dtype=np.float64), np.asarray(failed, dtype=np.bool_)
    if score.ndim != 1 or score.shape != answer.shape:
        shapes = f"{score.shape} and {answer.shape}"
        raise DataError(sentence("scores and answers", "must be flat and of one length", shapes))
    score, answer = score[~np.isnan(score)], answer[~np.isnan(score)]
    wrong = score[(score < 0) | (score > 1)]
    if wrong.size:
        raise DataError(sentence("scores", "must lie in [0, 1]", float(wrong[0]), "Give P(failure)."))
    return score, answer
