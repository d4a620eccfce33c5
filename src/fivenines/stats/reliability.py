"""Whether scores are probabilities: failure rates by score, and how far they are from the scores.

Given their scores, the labels of different items are independent, but the items of a bin are not alike:
:func:`failure_rate_unlike`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, SupportsIndex

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.binomial import LABELS, failure_rate_exact
from fivenines.stats.checks import bool_array, check_level, value_array, weight_array
from fivenines.stats.estimate import Estimate
from fivenines.stats.weighted import ratio_weighted

__all__ = ["CalibrationBin", "calibration_curve", "calibration_error", "failure_rate_unlike"]

_QUARTER = 0.25  # the largest tail for which unlike items are known to be no worse
_UNLIKE = "the items fail independently of each other, each with a probability of its own"
_INDEPENDENT = "the labels of different items are independent given their scores"
_BINNED = "what averages out within a bin is not seen: the error without bins is at least as large"
_AT_HAND = "the error is that of the scores at hand; other scores would be another question"
_PLUG_IN = "the point is the plain one, which is biased upwards; the interval allows for that"
_UNITS = 60  # into which the joint budget of the bins is cut, besides ten for each bin
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The items whose score lies from ``low`` up to ``high`` (itself only in the last bin).

    ``share`` is the bin's share of the weight; ``mean_score`` is NaN in a bin without items.
    """

    low: float
    high: float
    n: int
    share: float
    mean_score: float
    failure_rate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a mean score that is not known becomes None."""
        mean = None if math.isnan(self.mean_score) else self.mean_score
        return {**asdict(self), "mean_score": mean, "failure_rate": self.failure_rate.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        mean = math.nan if data["mean_score"] is None else data["mean_score"]
        rate = Estimate.from_dict(data["failure_rate"])
        return cls(**{**data, "mean_score": mean, "failure_rate": rate})


@dataclass(frozen=True, slots=True)
class _Bins:
    edges: Floats  # (bins + 1,)
    where: NDArray[np.int64]  # the bin of each item, (n,)
    failed: NDArray[np.bool_]
    weights: Floats | None
    n: NDArray[np.int64]  # (bins,), and so are the rest
    failures: NDArray[np.int64]
    share: Floats
    mean_score: Floats


def failure_rate_unlike(
    failures: SupportsIndex, n: SupportsIndex, level: float = 0.95, *, what: str = "failure rate"
) -> Estimate:
    """The mean failure probability of these ``n`` items, which need not be alike.

    A count of unlike items is at least as concentrated as a binomial one of the same mean, except next to 0
    and n (Hoeffding, Annals of Mathematical Statistics 1956), where P(count > 0) is at most n times the mean.
    So the limits of Clopper and Pearson at a tail of 1 - exp(-tail) instead of ``tail`` hold, for tails of a
    quarter and less; larger ones are taken as a quarter. At 95% that is 1% of the tail.

    Raises:
        DataError: a count is negative or no whole number, or there are more failures than items.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    tail = (1.0 - check_level(level)) / 2
    found = failure_rate_exact(failures, n, 1.0 - 2.0 * float(_narrowed(np.array(tail))), what=what)
    return replace(found, level=level, assumptions=(_UNLIKE, LABELS))


def calibration_curve(
    failed: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    bins: int | ArrayLike = 10,
    level: float = 0.95,
    *,
    weight_bound: float | None = None,
    simultaneous: bool = False,
) -> tuple[CalibrationBin, ...]:
    """The failure rate of each bin of scores beside its mean score: equal where scores are calibrated.

    Args:
        failed: shape (n,), whether each labelled item is a failure.
        scores: shape (n,), the classifier's P(failure), in [0, 1].
        weights: shape (n,), population over sampling probability, up to a constant; needs ``weight_bound``,
            the largest weight that the design could give.
        bins: how many bins of equal weight (fewer where scores are tied), or their edges, ascending.
        simultaneous: let all intervals hold together (Bonferroni) instead of each for itself.

    Intervals: exact binomial, with weights by betting (:func:`ratio_weighted`), for the mean failure
    probability of the items in a bin. A bin without items has [0, 1].

    Raises:
        NotEnoughDataError: no item.
        DataError: labels that are not 0 or 1, scores outside [0, 1] or the edges, bad weights.
        ConfigError: bad edges or number of bins, weights without a bound, a level outside (0, 1).
    """
    check_level(level)
    found = _binned(failed, scores, weights, bins)
    each = 1.0 - (1.0 - level) / int((found.n > 0).sum()) if simultaneous else level
    rates = _rates(found, each, weight_bound)
    if simultaneous:
        note = f"all {found.n.size} intervals hold together"
        rates = [replace(rate, level=level, assumptions=(note, *rate.assumptions)) for rate in rates]
    return tuple(
        CalibrationBin(
            float(found.edges[place]),
            float(found.edges[place + 1]),
            int(found.n[place]),
            float(found.share[place]),
            float(found.mean_score[place]),
            rate,
        )
        for place, rate in enumerate(rates)
    )


def calibration_error(
    failed: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    bins: int | ArrayLike = 10,
    level: float = 0.95,
    *,
    weight_bound: float | None = None,
    power: Literal[1, 2] = 1,
) -> Estimate:
    """The expected calibration error of binned scores: sum over bins of share |failure rate - mean score|.

    ``power`` 2 takes the squares; that point is unbiased (Kumar, Liang and Ma 2019, arXiv 1909.10155, section
    4), clipped at 0, and NaN where a bin has a single item. The point of power 1 is the plain one: perfectly
    calibrated scores have one well above 0.

    The interval does not come from the point. The exact p-values of the bins' failure rates, turned into
    normal scores, give a joint region {sum of squares <= chi-square quantile} that holds at every n; the
    interval runs from the least to the largest error in that region, found by dynamic programming and rounded
    outwards. With weights it takes the extremes over betting intervals that hold together (Bonferroni).

    Other arguments and errors: :func:`calibration_curve`.

    Raises:
        ConfigError: besides, a power other than 1 or 2.
    """
    check_level(level)
    if power not in (1, 2):
        raise ConfigError(sentence("power", "must be 1 or 2", power))
    found = _binned(failed, scores, weights, bins)
    full = found.n > 0
    if weights is None:
        low, high = _joint_bounds(found, level, power)
        method = "exact binomial, bins jointly"
    else:
        rates = _rates(found, 1.0 - (1.0 - level) / int(full.sum()), weight_bound)
        lows, highs = np.array([[rate.low, rate.high] for rate in rates]).T
        nearest, farthest = _gaps(lows, highs, found.mean_score, power)
        low, high = (float(np.sum((found.share * gap)[full])) for gap in (nearest, farthest))
        method = "betting, bins by Bonferroni"
    point, biased = _point(found, power)
    return Estimate(
        point,
        low if math.isnan(point) else min(low, point),
        min(high, 1.0),
        level,
        int(found.n.sum()),
        method,
        (*((_PLUG_IN,) if biased else ()), _BINNED, _AT_HAND, *_assumed(found, weight_bound)),
        "calibration error" if power == 1 else "squared calibration error",
    )


def _binned(failed: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, bins: int | ArrayLike) -> _Bins:
    s = value_array(scores, "scores")
    f = bool_array(failed, "failed", s.size)
    if not s.size:
        raise NotEnoughDataError(sentence("calibration", "needs labelled items", "none"), 1)
    if s.min() < 0.0 or s.max() > 1.0:
        wrong = float(s.min() if s.min() < 0.0 else s.max())
        raise DataError(sentence("scores", "must lie in [0, 1]", wrong, "Give probabilities."))
    w = None if weights is None else weight_array(weights, "weights", s.size)
    if w is not None and w.min() <= 0.0:
        raise DataError(sentence("weights", "must be positive", float(w.min())))
    mass = np.ones(s.size) if w is None else w
    edges = _equal_mass(s, mass, bins) if isinstance(bins, int | np.integer) else _given(bins, s)
    number = edges.size - 1
    where = np.clip(np.searchsorted(edges, s, side="right") - 1, 0, number - 1)
    n, failures = (np.bincount(where[which], minlength=number) for which in (slice(None), f))
    total = np.bincount(where, mass, number)
    with np.errstate(invalid="ignore"):
        mean = np.clip(np.bincount(where, mass * s, number) / total, edges[:-1], edges[1:])
    return _Bins(edges, where, f, w, n, failures, total / total.sum(), mean)


def _equal_mass(scores: Floats, mass: Floats, bins: int | np.integer[Any]) -> Floats:
    """Edges at scores that split the weight evenly; equal scores stay in one bin."""
    if isinstance(bins, bool) or bins < 1:
        raise ConfigError(sentence("bins", "must be at least 1", bins))
    order = np.argsort(scores, kind="stable")
    before = np.cumsum(mass[order]) - mass[order]
    first = np.searchsorted(before, mass.sum() * np.arange(1, bins) / bins)
    cuts = np.unique(scores[order][first[first < scores.size]])
    edges: Floats = np.concatenate(([scores.min()], cuts[cuts > scores.min()], [scores.max()]))
    return edges


def _given(edges: ArrayLike, scores: Floats) -> Floats:
    array = value_array(edges, "bins")
    if array.size < 2 or not np.all(np.diff(array) > 0):
        raise ConfigError(sentence("bins", "must be two or more ascending edges", array.tolist()))
    if scores.min() < array[0] or scores.max() > array[-1]:
        wrong = float(scores.min() if scores.min() < array[0] else scores.max())
        raise DataError(
            sentence("scores", f"must lie between the edges {array[0]:g} and {array[-1]:g}", wrong)
        )
    return array


def _rates(found: _Bins, level: float, weight_bound: float | None) -> list[Estimate]:
    """The failure rate of each bin."""
    assumed = _assumed(found, weight_bound)
    if found.weights is None:
        counts = zip(found.failures.tolist(), found.n.tolist(), strict=True)
        return [replace(failure_rate_unlike(k, n, level), assumptions=assumed) for k, n in counts]
    rates = []
    for number in range(found.n.size):
        inside = found.where == number
        share = ratio_weighted(
            found.failed[inside], found.weights[inside], weight_bound or 0.0, level=level, what="failure rate"
        )
        rates.append(replace(share, assumptions=assumed))
    return rates


def _assumed(found: _Bins, weight_bound: float | None) -> tuple[str, ...]:
    if found.weights is None:
        return (_INDEPENDENT, LABELS)
    if weight_bound is None:
        then = "It is the largest weight that the design could give."
        raise ConfigError(sentence("weight_bound", "must be given with weights", "none", then))
    bound = f"no item can have a weight above {weight_bound:.6g}"
    return ("weights are right up to a constant", bound, _INDEPENDENT, LABELS)


def _narrowed(tails: Floats) -> Floats:
    """Tails of a binomial limit that keep their level for items that are not alike."""
    narrow: Floats = -np.expm1(-np.minimum(tails, _QUARTER))
    return narrow


def _joint_bounds(found: _Bins, level: float, power: int) -> tuple[float, float]:
    """The least and the largest error in the joint region of the bins' failure rates."""
    full = found.n > 0
    n, k = found.n[full].astype(np.float64), found.failures[full]
    share, mean = found.share[full], found.mean_score[full]
    units = _UNITS + 10 * n.size
    # Each bin takes whole units of the budget, rounded up: together at most one more for each further bin.
    budget = units + n.size - 1
    z = np.sqrt(np.arange(budget + 1) / units * special.chdtri(n.size, 1.0 - level))
    tails = _narrowed(special.ndtr(-z))[:, None]  # (budget + 1, 1)
    lows = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, tails), 0.0)
    highs = np.where(k < n, special.betainccinv(k + 1, np.maximum(n - k, 1), tails), 1.0)
    nearest, farthest = _gaps(lows, highs, mean, power)
    return max(0.0, -_most(-share * nearest)), _most(share * farthest)


def _gaps(lows: Floats, highs: Floats, mean: Floats, power: int) -> tuple[Floats, Floats]:
    """The least and the largest |rate - mean|^power for rates within the limits."""
    nearest = np.maximum(0.0, np.maximum(mean - highs, lows - mean))
    farthest = np.maximum(np.abs(highs - mean), np.abs(mean - lows))
    return nearest**power, farthest**power


def _most(gains: Floats) -> float:
    """The largest sum of one gain from each column whose row numbers add up to the last row's or less."""
    size = gains.shape[0]
    best = np.zeros(size)
    for gain in gains.T:  # one bin after the other; within a bin all splits at once
        padded = np.concatenate((np.full(size - 1, -np.inf), best))
        best = np.max(sliding_window_view(padded, size) + gain[::-1], axis=1)
    return float(best[-1])


def _point(found: _Bins, power: int) -> tuple[float, bool]:
    """The error as observed, without its bias for squares of unweighted items; whether it is biased."""
    full = found.n > 0
    n, share, mean = found.n[full], found.share[full], found.mean_score[full]
    if found.weights is None:
        rate = found.failures[full] / n
    else:
        hit = np.bincount(found.where, found.weights * found.failed, found.n.size)[full]
        rate = hit / np.bincount(found.where, found.weights, found.n.size)[full]
    gaps = np.abs(rate - mean) ** power
    if power == 1 or found.weights is not None:
        return float(np.sum(share * gaps)), True
    if n.min() < 2:
        return math.nan, False
    return max(0.0, float(np.sum(share * (gaps - rate * (1.0 - rate) / (n - 1))))), False
