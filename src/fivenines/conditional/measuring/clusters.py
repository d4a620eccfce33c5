"""Intervals for smooth functions of sums over independent clusters (texts, documents, groups, trials)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.stats.checks import check_level
from fivenines.stats.estimate import Estimate

__all__ = ["conservative_ratio", "grouped", "inverse", "jackknife", "ratio_of_sums"]

Floats = NDArray[np.float64]
Measure = Callable[[Floats], Floats]  # sums (..., columns) -> (...)
RateAt = Callable[[float], Estimate]  # an estimate at the level asked for


def grouped(names: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """The number of the cluster of each of ``n`` items, from 0, shape (n,); None: each its own. Raises DataError."""
    if names is None:
        return np.arange(n)
    given = np.asarray(names)
    if given.shape != (n,):
        raise DataError(sentence("clusters", f"must have one for each of {n} items", f"shape {given.shape}"))
    found: NDArray[np.intp] = np.unique(given, return_inverse=True)[1]
    return found


def jackknife(
    rows: ArrayLike,
    measure: Measure,
    *,
    what: str,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    scale: Literal["plain", "log"] = "plain",
    unit: str = "texts",
) -> Estimate:
    """``measure`` of the column sums of ``rows``, shape (n, columns), with an interval that leaves out clusters.

    Approximate: point +- t standard errors on the scale named, the standard error from leaving out one cluster at a
    time (Quenouille, Tukey; Efron and Stein, Annals of Statistics 1981: on average never too small), t with one degree
    of freedom less than there are clusters. Not for rare events: those are counted (:mod:`fivenines.stats`).

    Raises:
        DataError: arrays that do not fit, a measure that is not finite, or not positive on the log scale.
        NotEnoughDataError: fewer than two clusters.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    table = np.asarray(rows, dtype=np.float64)
    number = grouped(clusters, len(table))
    count = int(number.max(initial=-1)) + 1
    if count < 2:
        message = sentence(what, f"needs two independent {unit} at least, to see how they differ", count)
        raise NotEnoughDataError(message, 2 - count)
    sums = np.stack(
        [np.bincount(number, column, count) for column in table.T], axis=-1
    )  # (clusters, columns)
    total = sums.sum(axis=0)
    values = np.append(measure(total - sums), measure(total))  # (clusters + 1,)
    if not np.isfinite(values).all() or (scale == "log" and values.min() <= 0.0):
        must = "must stay positive and finite" if scale == "log" else "must stay finite"
        raise DataError(
            sentence(what, f"{must} whichever of the {unit} is left out", repr(float(values.min())))
        )
    shown = np.log(values) if scale == "log" else values
    spread = math.sqrt((count - 1) / count * float(np.square(shown[:-1] - shown[:-1].mean()).sum()))
    reach = float(stats.t.ppf((1 + level) / 2, count - 1)) * spread
    ends = shown[-1] - reach, shown[-1] + reach
    low, high = (math.exp(end) if scale == "log" else float(end) for end in ends)
    assumptions = (
        f"the {unit} are independent draws",
        f"approximate: jackknife of {count:,} {unit}{', on the log scale' * (scale == 'log')}",
    )
    point = float(values[-1])
    return Estimate(
        point,
        min(low, point),
        max(high, point),
        level,
        count,
        "jackknife",
        assumptions,
        what,
        approximate=True,
    )


def ratio_of_sums(sums: Floats) -> Floats:
    """The first column over the second, shape (..., 2) -> (...): the commonest measure. NaN or infinite over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = sums[..., 0] / sums[..., 1]
    return found


def conservative_ratio(
    rate: RateAt, base: RateAt, level: float = 0.95, *, what: str = "ratio of rates"
) -> Estimate:
    """``rate`` over ``base``, each asked for at a level that spends half of the error.

    The interval holds whatever the dependence of the two (Bonferroni). No failure in ``base`` leaves the upper end
    infinite and the point unknown. Raises ConfigError for a level outside (0, 1).
    """
    half = 1.0 - (1.0 - check_level(level)) / 2
    above, below = rate(half), base(half)
    return Estimate(
        point=above.point / below.point if below.point > 0.0 else math.nan,
        low=above.low / below.high if below.high > 0.0 else 0.0,
        high=above.high / below.low if below.low > 0.0 else math.inf,
        level=level,
        n=min(above.n, below.n),
        method=f"ratio of two intervals, {above.method}",
        assumptions=tuple(dict.fromkeys((*above.assumptions, *below.assumptions))),
        what=what,
        approximate=above.approximate or below.approximate,
        trusts=" and ".join(dict.fromkeys(each.trusts for each in (above, below) if each.trusts)),
    )


def inverse(ratio: Estimate, what: str) -> Estimate:
    """One over a ratio: how many times fewer."""
    low, high = (math.inf if end == 0.0 else 1.0 / end for end in (ratio.high, ratio.low))
    point = 1.0 / ratio.point if ratio.point > 0.0 else math.nan
    return replace(ratio, point=point, low=low, high=high, what=what)
