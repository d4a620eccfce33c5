"""What the filter costs in quality, by coupling the two systems on their first draw."""

from __future__ import annotations

import itertools
import math
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import DataError, sentence
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import bool_array, check_level, count, value_array
from fivenines.stats.estimate import Estimate

__all__ = ["preference_coupled", "preference_exact", "quality_box"]

_RATE_SHARE = 0.1  # of the error budget; the rejected share comes from all prompts and hardly needs more
_BLIND = "the order of each pair was random and hidden from the rater"


def preference_coupled(
    rejected_first: ArrayLike | SupportsIndex,
    preferences: ArrayLike,
    level: float = 0.95,
    *,
    n: SupportsIndex | None = None,
) -> Estimate:
    """How often a rater prefers the filtered completion to the unfiltered one, ties worth a half.

    The unfiltered completion is the filter's first draw. Where that is accepted, both systems return it: a
    tie. So quality = (1 - r) / 2 + r p, with r the share of prompts whose first draw was rejected and p the
    preference for the filtered completion on those alone. With 10% rejected, some 100 times fewer comparisons
    do.

    Args:
        rejected_first: whether the first draw was rejected, shape (prompts,); or how many were, with ``n``
            prompts.
        preferences: one for each judged pair of a rejected first draw and the filtered completion: 1 when the
            filtered one is preferred, 0 when the first draw is, 0.5 for a tie, or the raters' mean. None
            judged gives a bound: p in [0, 1].

    Interval: exact (Clopper-Pearson) for r at a tenth of the error budget, :func:`preference_exact` for p at
        the
    rest, and the extremes of the formula over both: at least the stated level by Bonferroni, at any sample
    size.

    Raises:
        DataError: preferences outside [0, 1], or more of them than rejected first draws.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    rejected, prompts = _rejections(rejected_first, n)
    values = _preferences(preferences)
    if values.size > rejected:
        must = f"must not be more than the {rejected} rejected first draws"
        raise DataError(sentence("preferences", must, values.size))
    alpha = 1.0 - level
    r_low, r_high = (0.0, 1.0) if not prompts else clopper_pearson(rejected, prompts, alpha * _RATE_SHARE / 2)
    preferred = preference_exact(values, 1.0 - alpha * (1 - _RATE_SHARE))
    low, high = quality_box([(r_low, r_high, preferred.low, preferred.high)])
    point = math.nan
    if prompts and not rejected:
        point = 0.5
    elif values.size:
        point = 0.5 + rejected / prompts * (preferred.point - 0.5)
    assumptions: tuple[str, ...] = (
        "the unfiltered completion is the filter's first draw",
        "judged pairs are a random sample of the prompts with a rejected first draw, and independent",
        _BLIND,
    )
    if not values.size and rejected:
        assumptions = (
            "no pair was judged: only a bound, from the share of rejected first draws",
            *assumptions,
        )
    return Estimate(point, low, high, level, prompts, "coupled, exact", assumptions, "quality")


def preference_exact(preferences: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of preferences in [0, 1] (1 win, 0.5 tie, 0 loss, or the mean of several raters), exactly.

    Clopper-Pearson on s = wins + ties / 2 at half the error budget. Why that holds: replace each preference v
    by a coin that shows 1 with probability v, and s becomes a binomial count C with the same mean. Given the
    data, C is on s's side of any bound with probability 1/2 or more (ties: by symmetry; other values: the
    median of a sum of coins is within one of its mean, Jogdeo and Samuels 1968, so s is rounded outwards). A
    bound on C that fails with probability alpha / 4 hence fails on s with alpha / 2. Without data the
    interval is [0, 1].

    Raises:
        DataError: preferences outside [0, 1].
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    values = _preferences(preferences)
    assumptions = ("comparisons are independent", _BLIND)
    if not values.size:
        return Estimate(math.nan, 0.0, 1.0, level, 0, "exact with ties", assumptions, "preference")
    n, total, tail = values.size, float(values.sum()), (1.0 - level) / 4
    halves = bool(np.isin(values, (0.0, 0.5, 1.0)).all())
    low, _ = clopper_pearson(total if halves else math.floor(total), n, tail)
    _, high = clopper_pearson(total if halves else math.ceil(total), n, tail)
    return Estimate(total / n, low, high, level, n, "exact with ties", assumptions, "preference")


def quality_box(parts: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    """Extremes of 1/2 + sum r (p - 1/2) over boxes (r_low, r_high, p_low, p_high), cut to [0, 1]."""
    low = high = 0.5
    for r_low, r_high, p_low, p_high in parts:
        corners = [r * (p - 0.5) for r, p in itertools.product((r_low, r_high), (p_low, p_high))]
        low, high = low + min(corners), high + max(corners)
    return max(low, 0.0), min(high, 1.0)


def _rejections(rejected_first: ArrayLike | SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
    if n is None:
        rejected = bool_array(rejected_first, "rejected_first")  # type: ignore[arg-type]
        return int(rejected.sum()), rejected.size
    prompts, k = count(n, "n"), count(rejected_first, "rejected_first")  # type: ignore[arg-type]
    if k > prompts:
        raise DataError(sentence("rejected_first", f"must not exceed the {prompts} prompts", k))
    return k, prompts


def _preferences(preferences: ArrayLike) -> NDArray[np.float64]:
    values = value_array(preferences, "preferences")
    wrong = values[(values < 0.0) | (values > 1.0)]
    if wrong.size:
        then = "1: filtered preferred, 0.5: tie."
        raise DataError(sentence("preferences", "must lie in [0, 1]", float(wrong[0]), then))
    return values
