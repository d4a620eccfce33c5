"""A failure rate from labels per stratum, where the strata were sampled unequally."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import DataError, sentence
from fivenines.stats.betting import Items, bounded_estimate
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import check_level, value_array, weight_array
from fivenines.stats.estimate import Estimate
from fivenines.stats.reliability import failure_rate_unlike

__all__ = ["failure_rate_stratified", "strata_of"]

_ASSUMPTIONS = (
    "the shares of the strata are known, or so well known that their error does not matter",
    "within a stratum the labelled items are a simple random sample of a size fixed beforehand",
    LABELS,
)


def failure_rate_stratified(
    failures: ArrayLike,
    n: ArrayLike,
    shares: ArrayLike,
    level: float = 0.95,
    *,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate sum_s share_s rate_s from ``failures[s]`` among ``n[s]`` labels of each stratum.

    Args:
        failures: shape (strata,), whole numbers.
        n: shape (strata,), labels of each stratum, whole numbers.
        shares: shape (strata,), share of each stratum in the population; they sum to 1.

    Interval: each label of stratum s counts with the weight W_s = share_s N / n_s, N labels in all, and the
    product of bets on theta - W_s f holds for independent items that are not alike (:mod:`fivenines.stats.betting`).
    No intervals of strata are added up (which would ask each to fail less often than 1 in 20 strata), so that
    many strata without a failure cost no more than the one that was sampled most thinly: at zero failures the
    bound is about max(share_s / n_s) log(2 / tail). Where all W_s are equal (sampling in proportion) the exact
    binomial of the pooled counts is narrower and holds as well (:func:`failure_rate_unlike`).

    Raises:
        DataError: counts that cannot be, shares that do not sum to 1, a stratum with mass and no label.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    k, counts, mass = strata_of(failures, n, shares)
    held = counts > 0
    k, counts, mass = k[held], counts[held], mass[held]
    total = float(counts.sum())
    weights = mass * total / counts  # (strata,)
    if np.allclose(weights, 1.0, rtol=1e-9, atol=0.0):
        pooled = failure_rate_unlike(int(k.sum()), round(total), level, what=what)
        return replace(pooled, method="pooled exact binomial", assumptions=_ASSUMPTIONS)
    x, clear = np.concatenate([weights, np.zeros(k.size)]), counts - k
    items = Items(x, np.ones(x.size), float(weights.max()), 1.0, "mean", counts=np.concatenate([k, clear]))
    return bounded_estimate(items, level, what, _ASSUMPTIONS)


def strata_of(
    failures: ArrayLike, n: ArrayLike, shares: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Checked counts and shares, each of shape (strata,).

    Raises:
        DataError: as :func:`failure_rate_stratified`.
    """
    mass = weight_array(shares, "shares")
    if not mass.size or not math.isclose(float(mass.sum()), 1.0, rel_tol=1e-6):
        raise DataError(sentence("shares", "must sum to 1", float(mass.sum())))
    counts = _whole(n, "n", mass.size)
    k = _whole(failures, "failures", mass.size)
    if (k > counts).any():
        at = int(np.flatnonzero(k > counts)[0])
        raise DataError(
            sentence("failures", f"must not exceed the {counts[at]:.0f} labels of stratum {at}", int(k[at]))
        )
    if ((counts == 0) & (mass > 0)).any():
        at = int(np.flatnonzero((counts == 0) & (mass > 0))[0])
        then = "Label some of it, or join it with another stratum."
        raise DataError(
            sentence(f"stratum {at}", f"holds {mass[at]:.3g} of the mass and needs labels", "none", then)
        )
    return k, counts, mass / mass.sum()


def _whole(values: ArrayLike, name: str, size: int) -> NDArray[np.float64]:
    array = value_array(values, name, size)
    wrong = array[(array < 0) | (array != np.floor(array))]
    if wrong.size:
        raise DataError(sentence(name, "must be whole numbers, 0 or more", float(wrong[0])))
    return array
