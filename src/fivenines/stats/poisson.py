"""Weighted counts of rare events, by the gamma distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array, bounded_weight_array, check_level, weight_array
from fivenines.stats.estimate import Estimate

__all__ = ["failure_rate_poisson", "gamma_bounds"]


def failure_rate_poisson(
    failed: ArrayLike,
    weights: ArrayLike,
    weight_bound: float,
    level: float = 0.95,
    *,
    mean_one: bool = False,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate of a population from items of unequal weight, as a weighted sum of Poisson counts.

    Args:
        failed: shape (n,), whether each labelled item is a failure.
        weights: shape (n,), population over sampling probability of each item, up to a constant.
        weight_bound: the largest weight that the design could give, known before sampling.
        mean_one: the expectation of the weights is 1 exactly; as in :func:`failure_rate_weighted`.

    Interval of Fay and Feuer (Statistics in Medicine 1997), :func:`gamma_bounds`: exact for equal weights, and
    at least its level in every simulation that was published and in ours, but without a proof, and for rare
    failures only: hence approximate. It is narrower than the bets of :func:`failure_rate_weighted`, and does
    not hold at times of one's choice.

    Raises:
        DataError: labels that are not 0 or 1, or weights that are negative, not finite or above the bound.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    w = bounded_weight_array(weights, weight_bound)
    f = bool_array(failed, "failed", w.size)
    assumptions = (
        "failures are rare (a Poisson count at every weight)",
        "weights are exact" if mean_one else "weights are right up to a constant",
        f"no item can have a weight above {weight_bound:.6g}",
        "the labelled items are independent draws from the design, of a number fixed beforehand",
        LABELS,
    )
    mass = float(w.size if mean_one else w.sum())
    method = "gamma (Fay and Feuer)"
    if mass <= 0:
        return Estimate(math.nan, 0.0, 1.0, level, w.size, method, assumptions, what, approximate=True)
    share = w[f] / mass
    low, high = gamma_bounds(np.ones(share.size), share, weight_bound / mass, (1.0 - level) / 2)
    point = min(float(share.sum()), 1.0)
    return Estimate(
        point, min(low, 1.0), min(high, 1.0), level, w.size, method, assumptions, what, approximate=True
    )


def gamma_bounds(events: ArrayLike, weights: ArrayLike, largest: float, tail: float) -> tuple[float, float]:
    """Bounds on sum_i w_i E[x_i] for independent Poisson counts x_i, each failing with ``tail`` at most.

    Args:
        events: counts, shape (cells,).
        weights: what an event of the cell adds to the sum, shape (cells,).
        largest: the largest weight that an event could have, in any cell, seen or not.

    With y = sum w x and v = sum w^2 x the lower bound is a quantile of the gamma distribution of mean y and
    variance v, the upper one of that of mean y + largest and variance v + largest^2 (Fay and Feuer 1997).
    """
    x, w = weight_array(events, "events"), weight_array(weights)
    scale = max(float(largest), float(w.max(initial=0.0)))  # squares of small weights would vanish
    w, most = w / scale, float(largest) / scale
    y, v = float((w * x).sum()), float((w * w * x).sum())
    low = 0.0 if y <= 0 else v / y * float(special.gammaincinv(y * y / v, tail))
    above, spread = y + most, v + most * most
    high = spread / above * float(special.gammainccinv(above * above / spread, tail))
    return low * scale, high * scale
