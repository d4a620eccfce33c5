"""Failure rates from a pool that was labelled by a design: without predictions, and assisted by them.

A pool of N items is drawn from the distribution in question; item i is labelled by a coin with the known
probability pi_i (:mod:`fivenines.stats.designs`). With predictions m_i of any quality

    z_i = m_i + xi_i (f_i - m_i) / pi_i        (xi_i = 1 where labelled)

has the expectation f_i whatever m_i is. The mean of z is the prediction-assisted (AIPW) estimate: unbiased even where
the predictions are wrong, precise where they are right (Robins, Rotnitzky and Zhao, JASA 1994; Zrnic and Candes, ICML
2024). With m = 0 it is that of Horvitz and Thompson (JASA 1952).

The intervals are bets on the mean of z (:mod:`fivenines.stats.betting`), z <= 1 / floor by the design. Given the
predictions the z_i are independent, with means P(f_i = 1 | m_i) that average to the rate over pools, so they hold for
the rate of the distribution and trust no prediction. There is no free lunch: a failure that nobody predicted
weighs 1 / floor, so the bound is never below that of floor N labels without a failure, those of the uniform share.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.betting import Items, bounded_estimate
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import (
    bool_array,
    check_level,
    count,
    probability_array,
    value_array,
    weight_array,
)
from fivenines.stats.designs import Design
from fivenines.stats.estimate import Estimate
from fivenines.stats.weighted import failure_rate_weighted

__all__ = [
    "failure_rate_assisted",
    "failure_rate_hajek",
    "failure_rate_horvitz_thompson",
    "pseudo_outcomes",
]

_STRANGE = 1e-6  # chance of a number of labels below which it is not the design's
_COINS = "each item was labelled by a coin of its own, with the probability that is given"
_ANSWERED = "every item that was drawn has its label: none was left out, whatever it was"
POOL = "the pool is a sample of independent draws from the distribution that the rate speaks of"


def failure_rate_horvitz_thompson(
    failed: ArrayLike,
    inclusion: ArrayLike,
    pool: int,
    floor: float,
    level: float = 0.95,
    *,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate of a pool from labels by a design: sum(f / pi) / N.

    Args:
        failed: shape (n,), the labels.
        inclusion: shape (n,), the probability with which each of these items was labelled.
        pool: N, the items that could have been labelled.
        floor: the smallest inclusion probability that the design could give.

    Raises:
        DataError: labels that are not 0 or 1, probabilities outside [floor, 1], more labels than items.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    pi = _inclusion(inclusion, floor)
    f = bool_array(failed, "failed", pi.size)
    size = _pool(pool, pi.size)
    if not pi.size:
        return _nothing(level, what, "Horvitz-Thompson, betting", floor)
    _check_count(pi.size, floor * size, None)
    x = np.append(f / pi, 0.0)
    counts = np.append(np.ones(pi.size), float(size - pi.size))
    items = Items(x, np.ones(x.size), 1.0 / floor, 1.0, "mean", counts=counts)
    found = bounded_estimate(items, level, what, (_COINS, _ANSWERED, _floor_note(floor), POOL, LABELS))
    return replace(found, method="Horvitz-Thompson, betting", n=pi.size)


def failure_rate_hajek(
    failed: ArrayLike, inclusion: ArrayLike, floor: float, level: float = 0.95, *, what: str = "failure rate"
) -> Estimate:
    """The failure rate of a pool of unknown size, from labels by a design: sum(f / pi) / sum(1 / pi).

    Often more precise than Horvitz and Thompson's, since the number of labels that the coins gave drops out.

    Raises:
        DataError: labels that are not 0 or 1, probabilities outside [floor, 1].
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    pi = _inclusion(inclusion, floor)
    found = failure_rate_weighted(failed, 1.0 / pi, 1.0 / floor, level, what=what)
    return replace(
        found, method="Hajek, betting", assumptions=(_COINS, _ANSWERED, _floor_note(floor), POOL, LABELS)
    )


def failure_rate_assisted(
    design: Design,
    predictions: ArrayLike,
    labelled: ArrayLike,
    failed: ArrayLike,
    level: float = 0.95,
    *,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate of a pool from predictions for all of it and labels for some, by a design (AIPW).

    Args:
        design: the inclusion probability of every item of the pool, N of them, by a coin for each.
        predictions: P(failure) for every item of the pool, shape (N,), in [0, 1]; by a model that has not
            seen these labels.
        labelled: positions of the labelled items in the pool, shape (n,), each once.
        failed: shape (n,), their labels.

    The point may fall below 0 by the noise of the design; it is then 0. The interval trusts no prediction.

    Raises:
        DataError: predictions or labels that cannot be, a position outside the pool or twice.
        ConfigError: ``level`` is not strictly between 0 and 1, or a design that draws fixed numbers of strata
            (:func:`failure_rate_stratified` is for those).
    """
    z = pseudo_outcomes(design, predictions, labelled, failed)
    if not np.size(np.asarray(failed)):
        return _nothing(level, what, "prediction-assisted (AIPW), betting", design.floor)
    m, n = probability_array(predictions, "predictions"), np.size(np.asarray(failed))
    floor = float(
        np.min(m - m / design.inclusion, initial=0.0)
    )  # of what could have come; known before the labels
    items = Items(z, np.ones(z.size), 1.0 / design.floor, 1.0, "mean", floor)
    note = "the predictions were made without these labels (they need not be good)"
    assumptions = (_COINS, _ANSWERED, _floor_note(design.floor), note, POOL, LABELS)
    found = bounded_estimate(items, level, what, assumptions)
    point = found.point if math.isnan(found.point) else max(found.point, 0.0)
    return replace(found, point=point, method="prediction-assisted (AIPW), betting", n=n)


def pseudo_outcomes(
    design: Design, predictions: ArrayLike, labelled: ArrayLike, failed: ArrayLike
) -> NDArray[np.float64]:
    """z, shape (N,): the prediction of an item, or beyond [0, 1] what its label says of it and of those not labelled.

    Their mean is the point of :func:`failure_rate_assisted`, before it is cut at 0; arguments and errors as there.
    """
    if design.strata is not None:
        then = "Use failure_rate_stratified for a stratified one."
        raise ConfigError(sentence("design", "must label each item by a coin of its own", design.name, then))
    z = probability_array(predictions, "predictions", design.inclusion.size).copy()
    f = bool_array(failed, "failed")
    at = _positions(labelled, f.size, z.size)
    if f.size:
        _check_count(f.size, design.labels, design.labels)
    z[at] += (f - z[at]) / design.inclusion[at]
    return z


def _nothing(level: float, what: str, method: str, floor: float) -> Estimate:
    """Of no label: the full width, whatever the predictions say."""
    assumptions = (_COINS, _ANSWERED, _floor_note(floor), POOL, LABELS)
    return Estimate(math.nan, 0.0, 1.0, check_level(level), 0, method, assumptions, what)


def _check_count(n: int, least: float, most: float | None) -> None:
    """Coins that are to give between ``least`` and ``most`` labels may not give a number they never give."""
    low = special.pdtr(n, least)  # a sum of coins scatters less than a Poisson count of its mean
    high = 1.0 if most is None else special.pdtrc(n - 1, most)
    if min(low, high) < _STRANGE:
        bound = f"{least:.6g}" if most is not None else f"{least:.6g} or more"
        then = "Are answers missing, or is it another design?"
        raise DataError(sentence("the number of labels", f"must be about the design's {bound}", n, then))


def _inclusion(inclusion: ArrayLike, floor: float) -> NDArray[np.float64]:
    pi = weight_array(inclusion, "inclusion")
    if not 0.0 < floor <= 1.0:
        raise DataError(sentence("floor", "must lie in (0, 1]", floor))
    wrong = pi[(pi < floor * (1 - 1e-9)) | (pi > 1)]
    if wrong.size:
        raise DataError(sentence("inclusion", f"must lie in [{floor:g}, 1]", float(wrong[0])))
    return np.maximum(pi, floor)


def _pool(pool: int, labels: int) -> int:
    size = count(pool, "pool")
    if size < labels:
        raise DataError(sentence("pool", f"must hold at least the {labels} labelled items", size))
    return size


def _positions(labelled: ArrayLike, n: int, size: int) -> NDArray[np.intp]:
    at = value_array(labelled, "labelled", n)
    wrong = at[(at < 0) | (at >= size) | (at != np.floor(at))]
    if wrong.size:
        raise DataError(sentence("labelled", f"must be positions from 0 to {size - 1}", float(wrong[0])))
    position = at.astype(np.intp)
    if np.unique(position).size < n:
        raise DataError(sentence("labelled", "must name each item once", f"{n} positions with repeats"))
    return position


def _floor_note(floor: float) -> str:
    return f"no item had a smaller chance than {floor:.3g}: a failure weighs {1 / floor:.3g} at most"
