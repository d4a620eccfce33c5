"""Failure rates from samples that do not look like the distribution in question, by weights with a known
bound."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.betting import Items, bounded_estimate
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import (
    bool_array,
    bounded_weight_array,
    check_level,
    count,
    flat_array,
    value_array,
    weight_array,
)
from fivenines.stats.estimate import Estimate

__all__ = ["failure_rate_reused", "failure_rate_weighted", "mean_bounded", "ratio_bounded", "ratio_weighted"]


def failure_rate_weighted(
    failed: ArrayLike,
    weights: ArrayLike,
    weight_bound: float,
    level: float = 0.95,
    *,
    mean_one: bool = False,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate of a population from labelled items that were sampled with unequal probabilities.

    Args:
        failed: shape (n,), whether each labelled item is a failure.
        weights: shape (n,), population over sampling probability of each item (or 1 / inclusion probability),
        up to a constant. Weights may depend on anything known before the label was.
        weight_bound: the largest weight that the design could give, known before sampling.
        mean_one: the weights are exact, so that their expectation is 1, instead of up to a constant. The
        estimate is then sum(w f) / n (Horvitz-Thompson), else sum(w f) / sum(w) (Hajek).

    The interval (betting, see :mod:`fivenines.stats.betting`) holds at any rate and n, zero failures
    included, and at any time one looks. At zero failures it is ``weight_bound`` / mean weight times as wide
    as without weights: a failure of the largest weight could have been missed. No normal theory.

    Raises:
        DataError: labels that are not 0 or 1, or weights that are negative, not finite or above the bound.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    w = bounded_weight_array(weights, weight_bound)
    f = bool_array(failed, "failed", w.size)
    if not mean_one:
        return ratio_weighted(f, w, weight_bound, level=level, what=what)
    items = Items(w * f, np.ones(w.size), weight_bound, 1.0, "mean")
    return bounded_estimate(items, level, what, ("weights are exact", *_weighted_assumptions(weight_bound)))


def ratio_weighted(
    marked: ArrayLike, weights: ArrayLike, weight_bound: float, *, level: float = 0.95, what: str = "share"
) -> Estimate:
    """The share of the weight that is marked, sum(w m) / sum(w), with an interval by betting.

    Raises:
        DataError: marks that are not 0 or 1, or weights that are negative, not finite or above the bound.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    w = bounded_weight_array(weights, weight_bound)
    m = bool_array(marked, "marked", w.size)
    items = Items(w * m, w, weight_bound, weight_bound, "nested")
    return bounded_estimate(
        items, level, what, ("weights are right up to a constant", *_weighted_assumptions(weight_bound))
    )


def failure_rate_reused(
    failed_accepted: ArrayLike,
    draws: ArrayLike,
    returned: ArrayLike,
    budget: int,
    level: float = 0.95,
    *,
    what: str = "filtered failure rate",
) -> Estimate:
    """The failure rate of a filtered generator from labels on *unfiltered* draws.

    One entry for each prompt x, all of shape (n,):

    - ``failed_accepted``: f a of an unfiltered draw y1 (1 when it is a failure that the threshold accepts),
      or the mean of f a over several such draws. It needs a label only where the draw is accepted.
    - ``draws``: min(N, budget), where N counts *other* draws for the same prompt up to the first acceptance.
      It needs no label, and is read only where ``failed_accepted`` is not 0.
    - ``returned``: whether one of those ``budget`` draws was accepted.

    Quantity: P(failure) of what the system returns, E[f a min(N, K)] / E[returned]. Since y1 and N are
    independent given x and E[min(N, K) | x] = (1 - (1 - A)^K) / A = P(returned | x) / A(x), the numerator is
    the rate at which a prompt is answered by a failure; docs/design/estimands.md has the algebra. The same
    draw must not serve as y1 and in N: where the system's own first draw was labelled, N must come from a
    fresh run.

    The interval holds at zero failures, where it is ``budget`` times as wide as that of as many labels on the
    filter's own outputs: a failing prompt might have an acceptance of 1 / budget.

    Raises:
        DataError: arrays that do not fit together, draws below 1 or above the budget, a budget that is no count.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    most = count(budget, "budget")
    fa = value_array(failed_accepted, "failed_accepted")
    if fa.size and (fa.min() < 0 or fa.max() > 1):
        raise DataError(sentence("failed_accepted", "must lie in [0, 1]", float(fa.max())))
    back = bool_array(returned, "returned", fa.size)
    # NaN or 0 may stand where no draws were counted because nothing depends on them.
    counted = value_array(np.where(fa > 0, flat_array(draws, "draws", fa.size), 1.0), "draws")
    if counted.size and (counted.min() < 1 or counted.max() > most):
        worst = float(counted.max() if counted.max() > most else counted.min())
        raise DataError(sentence("draws", f"must lie between 1 and the budget of {most}", worst))
    items = Items(fa * counted, back.astype(np.float64), float(most), 1.0, "free")
    assumptions = (
        "prompts are independent draws from their distribution",
        "the labelled draw and the draws counted to the first acceptance are independent given the prompt",
        LABELS,
    )
    return bounded_estimate(items, level, what, assumptions)


def mean_bounded(
    values: ArrayLike, bounds: tuple[float, float], *, level: float = 0.95, what: str = "mean"
) -> Estimate:
    """The mean of values that are known beforehand to lie between two bounds.

    Raises:
        DataError: a value is not finite or out of bounds.
        ConfigError: ``level`` is not strictly between 0 and 1, or bounds that enclose nothing.
    """
    low, high = bounds
    if not -math.inf < low < high < math.inf:
        raise ConfigError(sentence("bounds", "must be a lower and a higher number", bounds))
    array = value_array(values, what)
    if array.size and (array.min() < low or array.max() > high):
        wrong = float(array.min() if array.min() < low else array.max())
        raise DataError(sentence(what, f"must lie between {low:g} and {high:g}", wrong))
    items = Items((array - low) / (high - low), np.ones(array.size), 1.0, 1.0, "mean")
    unit = bounded_estimate(items, level, what, ("the items are independent draws",))
    point, lower, upper = (low + (high - low) * value for value in (unit.point, unit.low, unit.high))
    return replace(unit, point=point, low=lower, high=upper)


def ratio_bounded(
    numerator: ArrayLike,
    denominator: ArrayLike,
    bound: float,
    *,
    level: float = 0.95,
    what: str = "ratio",
) -> Estimate:
    """E[numerator] / E[denominator] of paired values, numerator in [0, bound] and denominator in [0, 1].

    Draws per output: numerator the draws for a prompt, denominator whether an output came. The upper bound is
    infinite when the denominators are all zero.

    Raises:
        DataError: a value is not finite or out of bounds.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    if not (math.isfinite(bound) and bound > 0.0):
        raise DataError(sentence("bound", "must be finite and positive", bound))
    x = weight_array(numerator, "numerator")
    d = weight_array(denominator, "denominator", x.size)
    for name, array, limit in (("numerator", x, bound), ("denominator", d, 1.0)):
        if array.size and array.max() > limit:
            raise DataError(sentence(name, f"must be at most {limit:g}", float(array.max())))
    return bounded_estimate(
        Items(x, d, bound, 1.0), level, what, ("the items are independent draws",), math.inf
    )


def _weighted_assumptions(bound: float) -> tuple[Any, ...]:
    return (
        f"no item can have a weight above {bound:.6g}",
        "the labelled items are independent draws from the design",
        LABELS,
    )
