"""The failure rate behind the answers of judges who err, from a check of the judges.

A judge flags a failure with probability ``sens`` (sensitivity) and lets a text without one pass with ``spec``
(specificity). With c = 1 - spec, the share flagged is q = rate sens + (1 - rate) c, hence

    rate = (q - c) / (sens - c)                 Rogan and Gladen (American Journal of Epidemiology 1978)

Three counts tell of q, sens and c; all three are uncertain. A triple (rate, sens, c) has an exact p-value for
each count, against the side that would make the rate smaller: p1 for few flagged, p2 for many failures
caught, p3 for many texts flagged wrongly. Each is at least uniform, and they are independent, so with
z = max(0, normal quantile of 1 - p) and weights w of length 1 that may depend on the triple (never on the
counts), w1 z1 + w2 z2 + w3 z3 is stochastically at most w1 Z1+ + w2 Z2+ + w3 Z3+ of independent standard
normals. A triple is refused where it reaches the quantile of that, or where sens or c alone is beyond a limit
that fails with a fiftieth of the tail. The upper bound is the largest rate that has a triple which is not
refused: it fails with probability ``tail`` at most, at every sample size.

With weights in proportion to the standard deviations that the triple gives the three terms of q - c - rate
(sens - c), whose mean is 0, this is for large counts the usual normal interval; Bonferroni's box of three
limits is about a third wider. The lower bound is the upper bound of 1 - rate: exchange flagged and passed,
failures and the rest.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from fivenines.errors import DataError, sentence
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import check_level, count
from fivenines.stats.estimate import Estimate

__all__ = ["failure_rate_corrected"]

_SAME = "the judge errs here as in its check"
_ASSUMPTIONS = (
    "the judged items are independent draws from the distribution that the rate speaks of",
    "sensitivity and specificity are the same in that distribution as in the check of the judge",
    "the judge errs on each item independently of the others",
    "the failures and the rest in the check are independent draws, none of them among the judged items",
    "the reference answers of the check are right",
)
_REFUTED = "the share flagged contradicts the check: no rate explains both, so nothing is bounded"
_TRIM = 1 / 50  # share of the tail for the limits of sens and of c alone
_NODES = 61  # values of sens and of c that are tried, besides their limits and medians
_FAINT = 4.0  # flagged texts that the check should show before its full variance counts in the weights
_SLACK = 2e-4  # over the error of interpolating the critical values
_TOP = 40.0  # log odds above which a rate is 1
_FAST = 1_000_000  # up to here the faster of two functions for the binomial tail is right to eight digits
_POINTS, _MASS = np.polynomial.legendre.leggauss(64)
Grid = NDArray[np.float64]


def failure_rate_corrected(
    flagged: SupportsIndex,
    n: SupportsIndex,
    caught: SupportsIndex,
    failures_checked: SupportsIndex,
    cleared: SupportsIndex,
    oks_checked: SupportsIndex,
    level: float = 0.95,
) -> Estimate:
    """The failure rate behind ``flagged`` of ``n`` items, corrected for the errors of who flagged them.

    Args:
        flagged: how many of ``n`` items the judge (a labeler, a model) called a failure.
        caught: how many of ``failures_checked`` known failures it calls a failure: sensitivity.
        cleared: how many of ``oks_checked`` items known not to fail it calls no failure: specificity.

    The point is Rogan and Gladen's, clipped to [0, 1] (which is then listed); NaN where the check shows a
    judge no better than chance. The interval contains the true rate with at least the stated probability at
    every sample size, zero counts included (see the module), if the judge errs here as in its check. It is
    [0, 1], and says why, where the check does not show at this level that sensitivity + specificity > 1, or
    where the share flagged contradicts the check: the judge then errs otherwise here. The upper bound is never
    below that of ``n`` items without a failure and without correction: fewer flags than the false alarms of
    the check lead one to expect show no lower rate.

    Raises:
        DataError: a count is negative or no whole number, or exceeds the number it is a part of.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    counts = _Counts.checked(flagged, n, caught, failures_checked, cleared, oks_checked)
    tail = (1.0 - check_level(level)) / 2
    point, clipped = counts.point
    doubt = counts.doubt(tail)
    low, high = 0.0, 1.0
    if not doubt:
        top, bottom = _log_odds_bound(counts, tail), _log_odds_bound(counts.turned, tail)
        if top is None or bottom is None:
            doubt = _REFUTED
        else:
            high = max(float(special.expit(top)), clopper_pearson(0, counts.n, tail)[1])
            low = 0.0 if bottom >= _TOP else float(special.expit(-bottom))
    if not math.isnan(point):
        low, high = min(low, point), max(high, point)
    return Estimate(
        point,
        low,
        high,
        level,
        counts.n,
        "corrected for the judge's errors, exact tests combined",
        (*filter(None, (doubt, clipped)), *_ASSUMPTIONS),
        trusts=_SAME,
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    flagged: int
    n: int
    caught: int
    failures: int
    alarms: int  # texts without a failure that were flagged
    oks: int

    @classmethod
    def checked(cls, *given: SupportsIndex) -> _Counts:
        names = ("flagged", "n", "caught", "failures_checked", "cleared", "oks_checked")
        whole = [count(value, name) for value, name in zip(given, names, strict=True)]
        for part, total in ((0, 1), (2, 3), (4, 5)):
            if whole[part] > whole[total]:
                must = f"must not exceed the {whole[total]} of {names[total]}"
                raise DataError(sentence(names[part], must, whole[part]))
        return cls(whole[0], whole[1], whole[2], whole[3], whole[5] - whole[4], whole[5])

    @property
    def turned(self) -> _Counts:
        """The same with failures and the rest exchanged: its rate is 1 - rate."""
        return _Counts(
            self.n - self.flagged,
            self.n,
            self.oks - self.alarms,
            self.oks,
            self.failures - self.caught,
            self.failures,
        )

    @property
    def point(self) -> tuple[float, str]:
        """Rogan and Gladen's estimate, clipped, and a note when it was."""
        if not (self.n and self.failures and self.oks):
            return math.nan, ""
        alarms = self.alarms / self.oks
        youden = self.caught / self.failures - alarms
        if youden <= 0:
            return math.nan, ""
        raw = (self.flagged / self.n - alarms) / youden
        point = min(max(raw, 0.0), 1.0)
        return point, "" if raw == point else f"the corrected share was {raw:.3g} and is clipped to [0, 1]"

    def doubt(self, tail: float) -> str:
        """Why nothing can be said, if so."""
        if not self.n:
            return "no item was judged"
        sens = clopper_pearson(self.caught, self.failures, tail)[0] if self.failures else 0.0
        alarms = clopper_pearson(self.alarms, self.oks, tail)[1] if self.oks else 1.0
        if sens > alarms:
            return ""
        return (
            f"the check allows a judge no better than chance (sensitivity {sens:.3g}, specificity "
            f"{1 - alarms:.3g}, together 1 or less), so nothing is bounded"
        )


def _log_odds_bound(counts: _Counts, tail: float) -> float | None:
    """The log odds of the largest rate that is not refused; None where all are."""
    sens = _values(counts.caught, counts.failures, tail)
    alarms = _values(counts.alarms, counts.oks, tail)

    def excess(log_odds: Grid) -> Grid:
        return _excess(special.expit(log_odds), sens, alarms, counts, tail)

    start = float(special.logit(clopper_pearson(0, counts.n, tail)[1]))
    tried = np.append(-_TOP, np.linspace(min(start, 0.0) - 3.0, _TOP, 17))
    kept = np.flatnonzero(excess(tried) < 0.0)
    if not kept.size:
        return None
    last = int(kept[-1])
    if last == tried.size - 1:
        return _TOP
    ends = tried[last], tried[last + 1]
    return float(optimize.brentq(lambda value: float(excess(np.array([value]))[0]), *ends, rtol=1e-7))


def _values(k: int, n: int, tail: float) -> Grid:
    """Values of a share to try, from its lower limit up: near its estimate, and where its z becomes 0.

    The smallest sum lies at such a kink, at the limit or between values. With so many of them the bounds are within a
    few parts in a hundred of those of ten times as many (the tests look), on the side that is narrower.
    """
    limit, median = clopper_pearson(k, n, tail * _TRIM)[0], clopper_pearson(k, n, 0.5)[0]
    near = special.betaincinv(k + 0.5, n - k + 0.5, special.ndtr(np.linspace(-5.0, 5.0, _NODES)))
    values: Grid = np.unique(np.concatenate(([limit, median], near[near > limit], [1.0])))
    return values


def _excess(rates: Grid, sens: Grid, alarms: Grid, counts: _Counts, tail: float) -> Grid:
    """By how much each rate's best triple passes the critical value: below 0 the rate is kept; (rates,)."""
    rate, s, c = rates[:, None, None], sens[None, :, None], alarms[None, None, :]
    q = rate * s + (1.0 - rate) * c  # (rates, sens, alarms)
    z1 = _score(_at_most(counts.flagged, counts.n, q))
    z2 = _score(_at_least(counts.caught, counts.failures, s))
    z3 = _score(_at_least(counts.alarms, counts.oks, c))
    # Where the judged items would hold fewer than 4 false alarms for each that the check should show, the
    # check cannot tell c from 0, and its deviation must not outweigh the count of the flagged.
    share = np.minimum(1.0 / counts.oks, q / _FAINT)
    d1 = np.sqrt(q * (1.0 - q) / counts.n)
    d2 = rate * np.sqrt(s * (1.0 - s) / counts.failures)
    d3 = (1.0 - rate) * np.sqrt(c * (1.0 - c) * share)
    length = np.sqrt(d1**2 + d2**2 + d3**2)
    certain = d1 == 0.0  # q is 0 or 1: a count that cannot be refutes it, any other says nothing
    with np.errstate(invalid="ignore", divide="ignore"):
        total = (d1 * z1 + np.where(d2 > 0, d2 * z2, 0.0) + np.where(d3 > 0, d3 * z3, 0.0)) / length
        others = np.sqrt(np.maximum(0.0, 1.0 - (np.maximum(np.maximum(d1, d2), d3) / length) ** 2))
    total = np.where(certain, np.where(z1 > 0.0, np.inf, 0.0), total)
    radii, critical = _critical_values(tail * (1.0 - 2 * _TRIM))
    beyond = total - np.interp(np.nan_to_num(others), radii, critical)
    least: Grid = beyond.reshape(rates.size, -1).min(axis=1)
    return least


def _at_most(k: int, n: int, share: Grid) -> Grid:
    """P(at most k of n)."""
    if k >= n:
        return np.ones_like(share)
    found: Grid = special.bdtr(k, n, share) if n <= _FAST else special.betaincc(k + 1, n - k, share)
    return found


def _at_least(k: int, n: int, share: Grid) -> Grid:
    """P(at least k of n)."""
    if k <= 0:
        return np.ones_like(share)
    found: Grid = special.betainc(k, n - k + 1, share)
    return found


def _score(p_values: Grid) -> Grid:
    scores: Grid = np.maximum(-special.ndtri(p_values), 0.0)
    return scores


@functools.lru_cache(maxsize=64)
def _critical_values(tail: float) -> tuple[Grid, Grid]:
    """Quantiles of w1 Z1+ + w2 Z2+ + w3 Z3+ by the length of the two smaller weights together.

    Computed for two equal smaller ones and made monotone: no other split of that length has a larger
    quantile than the result (the tests scan them).
    """
    radii = np.linspace(0.0, math.sqrt(2 / 3), 65)
    found = [optimize.brentq(lambda t, r=r: _tail(t, r) - tail, 1e-3, 20.0) for r in radii]
    return radii, np.maximum.accumulate(np.array(found)) + _SLACK


def _tail(value: float, radius: float) -> float:
    """P(sqrt(1 - r^2) Z1+ + r (Z2+ + Z3+) / sqrt(2) >= value) for a positive value."""
    largest = math.sqrt(1.0 - radius**2)
    total = 0.25 * float(special.ndtr(-value / largest))  # neither Z2 nor Z3 is positive
    for both, scale in ((False, radius / math.sqrt(2)), (True, radius)):
        # u is the positive one of Z2 and Z3, or (Z2 + Z3) / sqrt(2) where both are
        end = value / max(scale, 1e-12)  # beyond it Z1 does not matter
        top = min(end, 9.0)
        u = (_POINTS + 1.0) / 2 * top
        density = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
        beyond = float(special.ndtr(-end))
        if both:
            density = density * (2.0 * special.ndtr(u) - 1.0)
            beyond *= float(special.ndtr(end))
        inside = density * special.ndtr(-(value - scale * u) / largest)
        total += beyond + float((_MASS / 2 * top * inside).sum())
    return total
