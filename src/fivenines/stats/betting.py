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

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fivenines.stats.checks import check_level
from fivenines.stats.estimate import Estimate

__all__ = ["Items", "betting_bounds", "betting_p_value", "bounded_estimate"]

# Half of the wealth goes on the largest bet, which wins when there are (almost) no failures: the price
# against the exact binomial bound at zero failures is then log 2. The rest covers counts from one to
# millions: over 0 to 1,000 failures of equal weight the upper half of the interval is 1.15 to 1.9 times the
# exact binomial's.
_SHARES = 2.0 ** (-np.arange(60) / 4)
_SHARES_MASS = 0.5 * np.append(1.0, 0.85 ** np.arange(59) / (0.85 ** np.arange(59)).sum())
_STAKES = 2.0 ** (np.arange(-20, 30) / 2)
_STAKES_MASS = np.exp(-np.abs(np.log2(_STAKES) - 1) / 3)
_STAKES_MASS /= _STAKES_MASS.sum()
_EXACT_GROUPS = (
    4096  # beyond so many distinct items they are rounded, each to the side that widens the interval
)
_DIGITS = 1e-3
_PRECISION = 1e-9
_TINY = 1e-15

Groups = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # x, d, counts; (groups,) each


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

    def grouped(self) -> Groups:
        """Distinct x, distinct d, and how often each pair occurs."""
        pairs, where = np.unique(self.x + 1j * self.d, return_inverse=True)
        counts = np.bincount(where, weights=self.counts).astype(np.float64)
        there = counts > 0  # what came no time must not lose a bet
        return pairs.real[there], pairs.imag[there], counts[there]

    def rounded(self, groups: Groups, towards: Literal["low", "high"]) -> Groups:
        """At most some thousands of groups, each moved to the side on which the bound gets wider."""
        if groups[0].size <= _EXACT_GROUPS:
            return groups
        up = towards == "high"
        x = np.minimum(_rounded(groups[0], up), self.bound)
        d = np.minimum(_rounded(groups[1], not up), self.d_bound)
        pairs, where = np.unique(x + 1j * d, return_inverse=True)
        return pairs.real, pairs.imag, np.bincount(where, weights=groups[2]).astype(np.float64)


def betting_bounds(items: Items, tail: float, top: float = 1.0) -> tuple[float, float]:
    """Bounds on E[x] / E[d], known to lie in [0, top], that each fail with probability ``tail`` at most."""
    total, mass = items.totals
    point = 0.0 if mass <= 0 else min(max(total / mass, 0.0), top)
    goal = -np.log(tail)
    groups = items.grouped()
    above, below = items.rounded(groups, "high"), items.rounded(groups, "low")
    _, high = _crossing(lambda theta: _log_wealth_below(above, items, theta) >= goal, point, top)
    low, _ = _crossing(lambda theta: _log_wealth_above(below, items, theta) < goal, 0.0, point)
    return low, high


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
    return float(min(1.0, np.exp(-_log_wealth_below(items.rounded(items.grouped(), "high"), items, theta))))


def _log_wealth_below(groups: Groups, items: Items, theta: float) -> float:  # grows with theta
    x, d, counts = groups
    worst = _worst_loss(items, theta)
    if worst <= 0:
        return np.inf
    gains = np.maximum((theta * d - x) / worst, -1.0)  # (groups,)
    return _log_mixture(np.outer(_SHARES, gains), counts, _SHARES_MASS)


def _log_wealth_above(groups: Groups, items: Items, theta: float) -> float:  # falls with theta
    x, d, counts = groups
    stakes = np.minimum(_STAKES / items.bound, 1.0 / (theta * items.d_bound))
    # A bet that could lose more than all is not made. Its share of the wealth is given away, not moved: then the
    # rest stays a supermartingale even where the floor is known only from the pool at hand, because the factors
    # given the pool have the means 1 + stake (E[x | pool] - theta d), none of them negative.
    made = stakes * (theta * items.d_bound - items.floor) <= 1.0 + _PRECISION
    if not made.any():
        return -np.inf
    gains = np.maximum(np.outer(stakes[made], x - theta * d), -1.0)  # (stakes, groups)
    return _log_mixture(gains, counts, _STAKES_MASS[made])


def _worst_loss(items: Items, theta: float) -> float:
    """The most that x - theta d can be, whatever comes."""
    if items.kind == "nested":
        return items.d_bound * (1.0 - theta)
    return items.bound - theta * items.d_bound if items.kind == "mean" else items.bound


def _log_mixture(gains: NDArray[np.float64], counts: NDArray[np.float64], mass: NDArray[np.float64]) -> float:
    with np.errstate(divide="ignore"):  # a bet that lost everything has log wealth -inf
        wealth = np.log1p(gains) @ counts
    return float(special.logsumexp(wealth, b=mass))


def _crossing(holds: Callable[[float], bool], start: float, end: float) -> tuple[float, float]:
    """The last point where a monotone statement fails and the first where it holds, between start and end."""
    if end == np.inf:  # double until it holds; what does not by then is not bounded by these data
        end = next((start * 2.0**k for k in range(1, 60) if start > 0 and holds(start * 2.0**k)), np.inf)
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


def _rounded(values: NDArray[np.float64], up: bool) -> NDArray[np.float64]:
    """Values on a geometric grid of one part in a thousand of their magnitude; zero stays zero."""
    with np.errstate(divide="ignore"):
        steps = np.log(np.abs(values)) / np.log1p(_DIGITS)
    outwards = (values > 0) == up  # away from zero
    grid = np.exp(np.where(outwards, np.ceil(steps), np.floor(steps)) * np.log1p(_DIGITS))
    rounded: NDArray[np.float64] = np.copysign(grid, values)
    return rounded
