"""Failure rates from a sample that was drawn with the wrong weights, given what the weights were.

What each mistake looks like, in the probabilities that are asked for (up to a constant each; only their ratio is
read):

- High scores were oversampled: ``drawn`` is the sampling rate of the item's score stratum, ``target`` is 1.
- Prompts were drawn uniformly over books, where uniformly over windows was meant: ``drawn`` is 1 / windows of the
  book, ``target`` is 1; the largest ratio is the windows of the largest book. (One prompt from each drawn book;
  several are a cluster, and not independent.)
- Deduplication kept one copy of each text: ``drawn`` is 1, ``target`` the number of copies in the raw corpus. Where
  it removed every copy, those texts could not be drawn: their share is unreachable.
- Only accepted texts were kept: ``drawn`` equals ``target`` for those, and the rejected share of the target is
  unreachable. Labels on accepted texts say nothing of it, at any number, so that the interval is at least as wide as
  that share. It needs labels on rejected texts, or another question: the rate among accepted texts.
- What was drawn depended on the label itself (failures that users reported): nothing here helps, for no probability
  that is known before the label describes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array, check_level, weight_array
from fivenines.stats.estimate import Estimate
from fivenines.stats.stratified import failure_rate_stratified
from fivenines.stats.weighted import ratio_weighted

__all__ = ["Overlap", "failure_rate_poststratified", "failure_rate_reweighted"]

_ROUNDING = 1e-9  # ratios of equal probabilities on different scales differ in the last digits


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far the sample's distribution covers the one that was meant.

    ``weight_bound`` is the largest target / drawn that any item which could be drawn has, on the scale of the
    probabilities given with the items. ``unreachable`` is the share of the target that could not be drawn at all; where
    it is known only up to a bound, give the bound; where it was estimated, give the upper end of its interval, whose
    error then adds to that of the rate.

    Raises:
        DataError: a bound that is not positive and finite, an unreachable share that is not known or not in [0, 1).
    """

    weight_bound: float
    unreachable: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight_bound) and self.weight_bound > 0.0):
            raise DataError(sentence("weight_bound", "must be finite and positive", self.weight_bound))
        _check_unreachable(self.unreachable)

    @classmethod
    def of_strata(
        cls, drawn: ArrayLike | Mapping[str, float], target: ArrayLike | Mapping[str, float]
    ) -> Overlap:
        """From the whole table of strata: for one item of each stratum, or for all of it, both probabilities.

        Args:
            drawn, target: shape (strata,), or by name, up to a constant each. A stratum that could not be drawn has
            ``drawn`` 0; one that was not meant has ``target`` 0. For ``unreachable`` to be right they must be those of
            whole strata (not of one item each) wherever some ``drawn`` is 0.

        Raises:
            DataError: probabilities that are negative or not finite, names that differ, no stratum that has both.
        """
        given, meant = _table(drawn, target)
        open_ = given > 0.0
        with np.errstate(over="ignore"):  # an infinite ratio is refused as a bound
            ratios = meant[open_] / given[open_]
        if not ratios.size or ratios.max() <= 0.0:
            raise DataError(sentence("strata", "must have one that could be drawn and was meant", "none"))
        return cls(float(ratios.max()), float(meant[~open_].sum() / meant.sum()))


def failure_rate_reweighted(
    failed: ArrayLike,
    drawn: ArrayLike,
    target: ArrayLike,
    overlap: Overlap,
    level: float = 0.95,
    *,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate under the distribution that was meant, from labels drawn under another one that is known.

    Args:
        failed: shape (n,), whether each labelled item is a failure.
        drawn: shape (n,), relative probability of each item under the way the sample was in fact drawn.
        target: shape (n,), relative probability of each item under the distribution that was meant.
        overlap: the bound on target / drawn, and the share m of the target that could not be drawn.

    The estimate is sum(w f) / sum(w) with w = target / drawn, its interval [low, high] by betting with the known
    bound: it holds at any rate and n, zero failures included. With m above 0 no point is given, and the interval is
    [low (1 - m), high (1 - m) + m]: anything from none to all of what could not be drawn may fail.

    Raises:
        DataError: probabilities that are negative or not finite, an item that was drawn with probability 0, a ratio
        above the bound, labels that are not 0 or 1.
        NotEnoughDataError: no labelled item belongs to the target.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    given = weight_array(drawn, "drawn")
    meant = weight_array(target, "target", given.size)
    f = bool_array(failed, "failed", given.size)
    if (given == 0.0).any():
        then = "Give the probability it was in fact drawn with."
        raise DataError(sentence("drawn", "must be positive for an item that was drawn", 0.0, then))
    if given.size and not meant.any():
        then = "Such a sample says nothing of it, at any size."
        raise NotEnoughDataError(
            sentence("target", "must be positive for some of the labelled items", "0 for all", then)
        )
    with np.errstate(over="ignore"):  # an infinite ratio is above the bound
        weights = meant / given / overlap.weight_bound  # (n,), at most 1
    if weights.size and weights.max() > 1.0 + _ROUNDING:
        most = float(weights.max() * overlap.weight_bound)
        raise DataError(
            sentence("target / drawn", f"must not exceed weight_bound = {overlap.weight_bound:g}", most)
        )
    found = ratio_weighted(f, np.minimum(weights, 1.0), 1.0, level=level, what=what)
    assumptions = (
        "the probabilities that items were drawn with, and should have been, are right up to a constant each",
        f"no item that could be drawn has a target / drawn above {overlap.weight_bound:.6g}",
        "what was drawn did not depend on the label in any other way",
        "the labelled items are independent draws",
        LABELS,
    )
    return _widened(replace(found, assumptions=assumptions), overlap.unreachable)


def failure_rate_poststratified(
    failures: ArrayLike,
    labelled: ArrayLike,
    target: ArrayLike,
    level: float = 0.95,
    *,
    allow_empty: bool = False,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate from labels counted by stratum after the fact, and the shares that the strata should have.

    Args:
        failures: shape (strata,), failures among the labels of each stratum.
        labelled: shape (strata,), labels of each stratum, however many came.
        target: shape (strata,), share of each stratum in the distribution that was meant, up to a constant.
        allow_empty: strata with mass but no label count as unreachable instead of an error: any part of them may
        fail, and no point is given.

    How the strata were sampled need not be known: given the counts, labels of a stratum are independent draws from
    it, and :func:`failure_rate_stratified` holds. The price of a stratum with few labels and much mass is in the width.

    Raises:
        DataError: counts that cannot be, shares that are negative or all 0, a stratum with mass and no label unless
        ``allow_empty``.
        NotEnoughDataError: no stratum with mass has a label.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    meant = weight_array(target, "target")
    if not meant.any():
        raise DataError(sentence("target", "must be positive for some stratum", "0 for all"))
    counts = weight_array(labelled, "labelled", meant.size)
    k = weight_array(failures, "failures", meant.size)
    if (k > counts).any():
        at = int(np.flatnonzero(k > counts)[0])
        raise DataError(
            sentence("failures", f"must not exceed the {counts[at]:.0f} labels of stratum {at}", float(k[at]))
        )
    shares = meant / meant.sum()
    empty = (counts == 0.0) & (shares > 0.0)
    unreachable = float(shares[empty].sum())
    if empty.any() and not allow_empty:
        then = "Label some of it, or allow_empty: then all of it may fail."
        at = int(np.flatnonzero(empty)[0])
        raise DataError(
            sentence(f"stratum {at}", f"holds {shares[at]:.3g} of the target and needs labels", "none", then)
        )
    kept = (counts > 0.0) & (shares > 0.0)
    if not kept.any():
        raise NotEnoughDataError(sentence("strata", "must have a label where the target has mass", "none"), 1)
    reached = shares[kept] / shares[kept].sum()
    found = failure_rate_stratified(k[kept], counts[kept], reached, level, what=what)
    assumptions = (
        "the shares that the strata should have are known",
        "within a stratum the labelled items are independent draws from it, whatever their number came from",
        LABELS,
    )
    return _widened(replace(found, assumptions=assumptions), unreachable)


def _widened(found: Estimate, unreachable: float) -> Estimate:
    """The interval when a share of the target could not be drawn, and may fail in none or all of it."""
    if unreachable == 0.0:
        return found
    note = (
        f"{100 * unreachable:.3g}% of the target could not be drawn; the interval allows none to all of it to "
        "fail, and more labels of this kind cannot narrow that"
    )
    low, high = found.low * (1.0 - unreachable), found.high * (1.0 - unreachable) + unreachable
    known = "the share that could not be drawn is known, or no larger than the bound given for it"
    return replace(
        found, point=math.nan, low=low, high=min(high, 1.0), assumptions=(*found.assumptions, note, known)
    )


def _check_unreachable(share: float | None) -> None:
    if share is None or math.isnan(share):
        then = "It is 0 only if everything that was meant could be drawn; without it no rate can be given."
        raise DataError(
            sentence("unreachable", "must be known: the target's share that could not be drawn", share, then)
        )
    if not 0.0 <= share < 1.0:
        raise DataError(sentence("unreachable", "must lie in [0, 1): at 1 the sample says nothing", share))


def _table(
    drawn: ArrayLike | Mapping[str, float], target: ArrayLike | Mapping[str, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if isinstance(drawn, Mapping) != isinstance(target, Mapping):
        raise DataError(sentence("drawn and target", "must both be lists, or both be by name", "one of each"))
    if isinstance(drawn, Mapping) and isinstance(target, Mapping):
        if drawn.keys() != target.keys():
            odd = sorted(map(str, drawn.keys() ^ target.keys()))
            raise DataError(sentence("drawn and target", "must name the same strata", f"only one has {odd}"))
        names = list(drawn)
        return _table([drawn[name] for name in names], [target[name] for name in names])
    given = weight_array(drawn, "drawn")  # type: ignore[arg-type]
    return given, weight_array(target, "target", given.size)  # type: ignore[arg-type]
