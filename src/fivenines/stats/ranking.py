"""How well scores rank failures above the rest: area under the ROC curve and average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.stats.checks import bool_array, check_level, value_array, weight_array
from fivenines.stats.estimate import Estimate

__all__ = ["auroc", "average_precision"]

_CHUNK = 2_000_000  # numbers a block of resamples may hold
_WORK = 400_000_000  # items times resamples; beyond it there are fewer resamples
_MANY = 50_000  # items from which on groups are left out instead of items drawn again
_GROUPS, _LEVELS = 100, 2000  # of the jackknife; about half of the bins of score that it uses

Measure = Callable[["Sums", "Sums"], NDArray[np.float64]]
Sums = NDArray[np.float64]  # (resamples, groups of equal score, ascending)


def auroc(
    answers: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """P(a failure scores above a non-failure), ties worth a half.

    Args:
        answers: shape (n,), 1 for a failure.
        scores: shape (n,), finite; higher is worse.
        weights: shape (n,), 1 / (inclusion probability) when the items were sampled unequally.
        clusters: shape (n,), what the items came from (book, author): resampled whole, for items of one book
            are not independent.

    Interval, approximate: point +- t standard errors on the logit scale, the standard error from 1,000 bootstrap
    resamples, within failures and non-failures apart, or of clusters (beyond 50,000 items from a jackknife of
    a hundred groups of them); t has as many degrees of freedom as the rarer class has items (or clusters that hold
    one) less one. Perfect separation gives the exact bound on disjoint pairs, never [1, 1].

    Raises:
        DataError: arrays that do not fit together, or scores that are not finite.
        NotEnoughDataError: no failure or no non-failure, or either in fewer than two clusters.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    data = _Ranked.of(answers, scores, weights, clusters)
    return _estimate(data, _auroc, "AUROC", level, seed)


def average_precision(
    answers: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Precision averaged over failures, sum (R_k - R_(k-1)) P_k; arguments and errors as :func:`auroc`.

    So is the interval, but for the resamples, which are of all items together: unlike the AUROC, this figure depends on
    the share of failures, which is random too.
    """
    data = _Ranked.of(answers, scores, weights, clusters, apart=False)
    return _estimate(data, _average_precision, "average precision", level, seed)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Items in ascending order of score."""

    failed: NDArray[np.bool_]  # (n,)
    weights: NDArray[np.float64]  # (n,)
    starts: NDArray[np.intp]  # (groups,), where each distinct score begins
    clusters: NDArray[np.intp] | None  # (n,), numbered from 0
    apart: bool  # resample failures and the rest apart: how many there are of each is given

    @classmethod
    def of(
        cls,
        answers: ArrayLike,
        scores: ArrayLike,
        weights: ArrayLike | None,
        clusters: ArrayLike | None,
        *,
        apart: bool = True,
    ) -> _Ranked:
        score = value_array(scores, "scores")
        failed = bool_array(answers, "answers", score.size)
        weight = np.ones(score.size) if weights is None else weight_array(weights, n=score.size)
        for name, side in (("failure", failed), ("non-failure", ~failed)):
            if not weight[side].sum() > 0:
                got = f"none among {score.size}"
                message = sentence("ranking", f"must have at least one {name} of positive weight", got)
                raise NotEnoughDataError(message, 1)
        groups = None
        if clusters is not None:
            named = np.asarray(clusters)
            if named.shape != score.shape:
                raise DataError(
                    sentence("clusters", f"must have one for each of {score.size} items", named.size)
                )
            groups = _numbered(named)
            for name, side in (("failure", failed), ("non-failure", ~failed)):
                if np.unique(groups[side]).size < 2:
                    must = f"must hold a {name} in at least two, to see how they differ"
                    raise NotEnoughDataError(sentence("clusters", must, 1), 1)
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        return cls(failed[order], weight[order], starts, None if groups is None else groups[order], apart)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the standard error."""
        if self.clusters is None:
            return max(1, min(int(side.sum()) for side in (self.failed, ~self.failed)) - 1)
        return min(np.unique(self.clusters[side]).size for side in (self.failed, ~self.failed)) - 1

    @property
    def parts(self) -> tuple[NDArray[np.bool_], ...]:
        """What is resampled apart from each other, shape (n,) each."""
        return (self.failed, ~self.failed) if self.apart else (np.ones(self.failed.size, np.bool_),)

    def sums(self, copies: NDArray[np.float64]) -> tuple[Sums, Sums]:
        """Weight of failures and of the rest at each distinct score; copies: (resamples, n)."""
        weight = copies * self.weights
        bad = np.add.reduceat(weight * self.failed, self.starts, axis=1)
        return bad, np.add.reduceat(weight, self.starts, axis=1) - bad

    def dealt(self, rng: np.random.Generator, groups: int) -> NDArray[np.intp]:
        """One of ``groups`` random groups for each item, shape (n,): clusters whole, else each part evenly."""
        if self.clusters is not None:
            return (rng.permutation(int(self.clusters.max()) + 1) % groups)[self.clusters]
        group = np.empty(self.failed.size, np.intp)
        for side in self.parts:
            group[side] = rng.permutation(int(side.sum())) % groups
        return group

    def binned(self, levels: int) -> NDArray[np.intp]:
        """The bin of each item, shape (n,), ascending: some ``levels`` of scores and as many of failures' scores."""
        failing = np.flatnonzero(self.failed)[:: max(1, int(self.failed.sum()) // levels)]
        places = (np.linspace(0, self.failed.size - 1, levels).astype(np.intp), failing)
        firsts = (
            np.searchsorted(self.starts, np.concatenate(places), side="right") - 1
        )  # of items of equal score
        begins = np.zeros(self.failed.size, np.intp)
        begins[self.starts[np.unique(firsts)]] = 1
        return np.cumsum(begins) - 1

    def resampled(self, rng: np.random.Generator, resamples: int) -> Iterator[NDArray[np.float64]]:
        """Blocks of how often each item is drawn, shape (some, n), in all ``resamples`` rows."""
        block = max(1, _CHUNK // self.failed.size)
        for start in range(0, resamples, block):
            rows = min(block, resamples - start)
            if self.clusters is not None:
                number = int(self.clusters.max()) + 1
                drawn = rng.multinomial(number, np.full(number, 1 / number), size=rows)
                yield drawn[:, self.clusters].astype(np.float64)
                continue
            copies = np.empty((rows, self.failed.size))
            for side in self.parts:
                number = int(side.sum())
                copies[:, side] = rng.multinomial(number, np.full(number, 1 / number), size=rows)
            yield copies


def _auroc(bad: Sums, good: Sums) -> NDArray[np.float64]:
    below = np.cumsum(good, axis=1) - good / 2
    with np.errstate(invalid="ignore"):  # a resample may hold one class only: NaN, left out
        area: NDArray[np.float64] = (bad * below).sum(axis=1) / (bad.sum(axis=1) * good.sum(axis=1))
    return area


def _average_precision(bad: Sums, good: Sums) -> NDArray[np.float64]:
    bad, good = bad[:, ::-1], good[:, ::-1]  # from the worst score down
    found, seen = np.cumsum(bad, axis=1), np.cumsum(bad + good, axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.where(seen > 0, found / seen, 0.0)
        area: NDArray[np.float64] = (bad * precision).sum(axis=1) / bad.sum(axis=1)
    return area


def _estimate(data: _Ranked, measure: Measure, what: str, level: float, seed: int) -> Estimate:
    check_level(level)
    n, bad = data.failed.size, int(data.failed.sum())
    point = min(float(measure(*data.sums(np.ones((1, n))))[0]), 1.0)  # rounding may pass it
    edge = 1 / (2 * bad * (n - bad) + 2)  # half a pair: keeps the logit finite
    rng = np.random.default_rng(seed)
    spread, freedom, how = (_jackknife if n > _MANY else _bootstrap)(data, measure, edge, rng)
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * spread
    centre = float(_logit(np.array([point]), edge)[0])
    low, high = (float(special.expit(centre + step)) for step in (-reach, reach))
    low, high = _never_certain(point, min(low, point), max(high, point), min(bad, n - bad), level)
    alike = (
        "the items, or the clusters, are independent draws"
        if data.clusters is not None
        else "independent items"
    )
    method = how.split(" of ", 1)[0]
    return Estimate(
        point, low, high, level, n, method, (alike, f"approximate: {how}"), what, approximate=True
    )


def _bootstrap(
    data: _Ranked, measure: Measure, edge: float, rng: np.random.Generator
) -> tuple[float, int, str]:
    """Standard error on the logit scale, its degrees of freedom, and how it was had."""
    resamples = int(np.clip(_WORK // data.failed.size, 100, 1000))
    values = np.concatenate([measure(*data.sums(copies)) for copies in data.resampled(rng, resamples)])
    kept = "failures and the rest apart" if data.apart else "items"
    if data.clusters is not None:
        kept = f"{int(data.clusters.max()) + 1} clusters"
    how = f"bootstrap of {kept}, {resamples:,} resamples, on the logit scale"
    return float(np.nanstd(_logit(values, edge), ddof=1)), data.freedom, how


def _jackknife(
    data: _Ranked, measure: Measure, edge: float, rng: np.random.Generator
) -> tuple[float, int, str]:
    """The same for many items, by leaving out one of some hundred random groups at a time (Quenouille, Tukey).

    For this scores are binned, finely where failures lie: it changes the standard error by next to nothing.
    """
    blocks = data.freedom + 1 if data.clusters is None else int(data.clusters.max()) + 1
    groups = min(_GROUPS, blocks)
    group = data.dealt(rng, groups)
    number = data.binned(_LEVELS)
    bins = int(number[-1]) + 1
    cells = [
        np.bincount(group[side] * bins + number[side], weights=data.weights[side], minlength=groups * bins)
        for side in (data.failed, ~data.failed)
    ]
    bad, good = (cell.reshape(groups, bins) for cell in cells)
    values = _logit(measure(bad.sum(axis=0) - bad, good.sum(axis=0) - good), edge)  # (groups,)
    spread = math.sqrt((groups - 1) * float(np.nanvar(values)))
    kept = "groups of items" if data.clusters is None else "groups of clusters"
    return spread, min(groups - 1, data.freedom), f"jackknife of {groups} {kept}, on the logit scale"


def _numbered(names: NDArray[Any]) -> NDArray[np.intp]:
    """The number of each cluster, from 0, shape (n,)."""
    try:
        return np.unique(names, return_inverse=True)[1]
    except TypeError as error:
        raise DataError(sentence("clusters", "must all be numbers, or all be names", str(error))) from error


def _never_certain(point: float, low: float, high: float, pairs: int, level: float) -> tuple[float, float]:
    """At perfect separation all resamples agree; the rarer class gives as many disjoint pairs in order."""
    bound = math.exp(math.log((1 - level) / 2) / pairs)
    if point >= 1.0:
        return min(low, bound), 1.0
    if point <= 0.0:
        return 0.0, max(high, 1 - bound)
    return low, high


def _logit(values: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = special.logit(np.clip(values, edge, 1 - edge))
    return logits
