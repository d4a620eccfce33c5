"""Bounds on a mean or a ratio of means of bounded values, by betting.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2024), arXiv
2010.09686, section 4, with a mixture of bets that are fixed beforehand instead of bets that follow the data:
the wealth is then a product over the items in any order, so neither a seed nor the order of the data can
change the interval, and equal items need one factor with a count.

For items (x_i, d_i), independent and alike, floor <= x <= bound, the quantity is theta = E[x] / E[d]. At the
true theta each g = theta d - x has mean 0, so for a bet c in [0, 1] and L >= max(-g) the wealth
prod(1 + c g_i / L) is a non-negative martingale, and so is any mixture over c. By Markov it reaches 1 / tail
with probability ``tail`` at most: every theta at which it does is refused. By Ville that holds at every time
at once: one may look and stop.

At a sample size that was fixed beforehand the items need not be alike. Where they are independent with means
m_i of g that average to 0, E[prod] = prod(1 + c m_i / L) <= 1 by the inequality of the means; and where they
are drawn without replacement from groups, E[prod] is smaller still (Maclaurin's inequality). So a stratified
sample may be bounded by the same product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fivenines.stats.checks import check_level
from fivenines.stats.estimate import Estimate

__all__ = ["Items", "betting_bounds", "betting_p_value", "betting_upper", "bounded_estimate"]

# Half of the wealth goes on the largest bet, which wins when there are (almost) no failures: the price
# against the exact binomial bound at zero failures is then log 2. The rest covers counts from one to
# millions: over 0 to 1,000 failures of equal weight the upper half of the interval is 1.15 to 1.9 times the
# exact binomial's.
_SHARES = 2.0 ** (-np.arange(60) / 4)
_SHARES_MASS = 0.5 * np.append(1.0, 0.85 ** np.arange(59) / (0.85 ** np.arange(59)).sum())
_STAKES = 2.0 ** (np.arange(-20, 30) / 2)
_STAKES_MASS = np.exp(-np.abs(np.log2(_STAKES) - 1) / 3)
_STAKES_MASS /= _STAKES_MASS.sum()
_EXACT = 1024  # beyond so many distinct items each is shared among the corners of a grid
_COLUMNS, _ROWS = 160, 80  # of that grid: values of x (or x / d), values of d
_RANGE = 1e-6  # of the largest value: what is smaller lies between the first column and zero
_PRECISION = 1e-9
_TINY = 1e-15


@dataclass(frozen=True, slots=True)
class Items:
    """The data of a ratio E[x] / E[d]; ``x`` and ``d`` have shape (n,).

    ``0 <= x <= bound`` is known beforehand to hold for every x that could have come, ``d <= d_bound`` for every
    d. With a negative ``floor``, floor <= x holds instead; it may be read off whatever was known before the
    labels (predictions, inclusion probabilities), while ``bound`` stays a constant of the design. ``kind`` is
    a property of the design, not of the draw: "mean" when every d is d_bound, "nested" when no x exceeds its d.
    ``counts`` says how often each (x, d) came; None: once.
    """

    x: NDArray[np.float64]
    d: NDArray[np.float64]
    bound: float
    d_bound: float
    kind: Literal["mean", "nested", "free"] = "free"
    floor: float = 0.0  # 0 or below
    counts: NDArray[np.float64] | None = None  # (n,)

    @property
    def size(self) -> float:
        """How many items there are."""
        return float(self.x.size if self.counts is None else self.counts.sum())

    @property
    def totals(self) -> tuple[float, float]:
        """Sum of x, sum of d."""
        counts = 1.0 if self.counts is None else self.counts
        return float((self.x * counts).sum()), float((self.d * counts).sum())

    @property
    def times(self) -> NDArray[np.float64]:
        """How often each (x, d) came, shape (n,)."""
        return np.ones(self.x.size) if self.counts is None else self.counts

    def compact(self) -> Items:
        """The same for every bound, or as good as that, in far fewer items with counts.

        Equal items become one. Beyond a thousand distinct ones each is shared among the corners of its cell on a
        grid, in such shares that their mean is the item. The log of a bet's wealth is concave in the item, so that no
        bet wins by it (Jensen): the bounds still hold, and are wider by the square of a cell's width.
        """
        pairs, where = np.unique(self.x + 1j * self.d, return_inverse=True)
        counts = np.bincount(where, weights=self.counts).astype(np.float64)
        there = counts > 0  # what came no time must not lose a bet
        x, d, counts = pairs.real[there], pairs.imag[there], counts[there]
        if x.size > _EXACT:
            nested = self.kind == "nested"  # a corner must not have more x than d
            value = np.divide(x, d, out=np.zeros_like(x), where=d > 0) if nested else x
            column, columns = _cells(value, _COLUMNS)
            row, rows = _cells(d, _ROWS)
            total = np.zeros(rows.size * columns.size)
            for down, right in itertools.product((0, 1), (0, 1)):
                share = counts * np.abs(1 - down - row % 1) * np.abs(1 - right - column % 1)
                cell = np.minimum(np.floor(row) + down, rows.size - 1) * columns.size
                cell += np.minimum(np.floor(column) + right, columns.size - 1)
                total += np.bincount(cell.astype(np.intp), weights=share, minlength=total.size)
            held = total > 0
            d = np.repeat(rows, columns.size)[held]
            x = np.tile(columns, rows.size)[held] * (d if nested else 1.0)
            counts = total[held]
        return replace(self, x=x, d=d, counts=counts)


def betting_bounds(items: Items, tail: float, top: float = 1.0) -> tuple[float, float]:
    """Bounds on E[x] / E[d], known to lie in [0, top], that each fail with probability ``tail`` at most."""
    few = items.compact()
    point, first = _start(few, top)
    goal = -np.log(tail)
    low, _ = _crossing(lambda theta: _log_wealth_above(few, theta) < goal, 0.0, point, first)
    return low, _upper(few, tail, top)


def betting_upper(items: Items, tail: float, top: float = 1.0) -> float:
    """The upper of the :func:`betting_bounds` alone."""
    return _upper(items.compact(), tail, top)


def _upper(few: Items, tail: float, top: float) -> float:
    point, first = _start(few, top)
    goal = -np.log(tail)
    _, high = _crossing(lambda theta: _log_wealth_below(few, theta) >= goal, point, top, first)
    if few.floor < 0:  # what lies below 0 may refute every rate: then say no less than no failure would
        none = replace(few, x=np.zeros_like(few.x))
        high = max(high, _crossing(lambda theta: _log_wealth_below(none, theta) >= goal, 0.0, top, first)[1])
    return high


def bounded_estimate(
    items: Items, level: float, what: str, assumptions: tuple[str, ...], top: float = 1.0
) -> Estimate:
    """E[x] / E[d], known to lie in [0, top], with its interval by betting; full width without data."""
    check_level(level)
    n, (total, mass) = round(items.size), items.totals
    if n == 0 or mass <= 0.0:
        return Estimate(math.nan, 0.0, top, level, n, "betting", assumptions, what)
    low, high = betting_bounds(items, (1.0 - level) / 2, top)
    return Estimate(min(total / mass, top), low, high, level, n, "betting", assumptions, what)


def betting_p_value(items: Items, theta: float) -> float:
    """p-value of "E[x] / E[d] is at least theta", against "it is below"."""
    return float(min(1.0, np.exp(-_log_wealth_below(items.compact(), theta))))


def _start(items: Items, top: float) -> tuple[float, float]:
    """The point, within [0, top]; and where to begin looking for a bound without a top."""
    total, mass = items.totals
    point = 0.0 if mass <= 0 else min(max(total / mass, 0.0), top)
    return point, point if point > 0 else items.bound / max(mass, _TINY)


def _log_wealth_below(items: Items, theta: float) -> float:  # grows with theta
    worst = _worst_loss(items, theta)
    if worst <= 0:
        return np.inf
    gains = np.maximum((theta * items.d - items.x) / worst, -1.0)  # (n,)
    return _log_mixture(np.outer(_SHARES, gains), items.times, _SHARES_MASS)


def _log_wealth_above(items: Items, theta: float) -> float:  # falls with theta
    stakes = np.minimum(_STAKES / items.bound, 1.0 / (theta * items.d_bound))
    # A bet that could lose more than all is not made. Its share of the wealth is given away, not moved: then the
    # rest stays a supermartingale even where the floor is known only from the pool at hand, because the factors
    # given the pool have the means 1 + stake (E[x | pool] - theta d), none of them negative.
    made = stakes * (theta * items.d_bound - items.floor) <= 1.0 + _PRECISION
    if not made.any():
        return -np.inf
    gains = np.maximum(np.outer(stakes[made], items.x - theta * items.d), -1.0)  # (stakes, n)
    return _log_mixture(gains, items.times, _STAKES_MASS[made])


def _worst_loss(items: Items, theta: float) -> float:
    """The most that x - theta d can be, whatever comes."""
    if items.kind == "nested":
        return items.d_bound * (1.0 - theta)
    return items.bound - theta * items.d_bound if items.kind == "mean" else items.bound


def _log_mixture(gains: NDArray[np.float64], counts: NDArray[np.float64], mass: NDArray[np.float64]) -> float:
    with np.errstate(divide="ignore"):  # a bet that lost everything has log wealth -inf
        wealth = np.log1p(gains) @ counts
    return float(special.logsumexp(wealth, b=mass))


def _crossing(holds: Callable[[float], bool], start: float, end: float, first: float) -> tuple[float, float]:
    """The last point where a monotone statement fails and the first where it holds, between start and end."""
    if end == np.inf:  # double until it holds; what does not by then is not bounded by these data
        end = next((first * 2.0**k for k in range(1, 60) if holds(first * 2.0**k)), np.inf)
        if end == np.inf:
            return end, end
    fails, true = max(start, _TINY * end), end
    if not (end > 0.0 and holds(end * (1.0 - _PRECISION))):
        return end, end
    if holds(fails):
        return start, fails
    while true - fails > _PRECISION * true:
        middle = float(np.sqrt(fails * true)) if true > 4 * fails else (fails + true) / 2
        fails, true = (fails, middle) if holds(middle) else (middle, true)
    return fails, true


def _cells(values: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The place of each value among ``nodes`` (with its fraction towards the next), and the nodes, ascending.

    The nodes are the values themselves where they are few; else zero, both ends and, between them, a geometric and
    a linear grid.
    """
    nodes = np.unique(values)
    if nodes.size > most:
        low, high = float(nodes[0]), float(nodes[-1])
        signs = [sign for sign, end in ((-1.0, -low), (1.0, high)) if end > 0]
        top = max(-low, high)
        grid = [sign * np.geomspace(_RANGE * top, top, most // 2 // len(signs)) for sign in signs]
        nodes = np.unique(np.concatenate([[0.0], np.linspace(low, high, most // 2), *grid]))
        nodes = nodes[(nodes >= low) & (nodes <= high)]
    return np.interp(values, nodes, np.arange(nodes.size, dtype=np.float64)), nodes
