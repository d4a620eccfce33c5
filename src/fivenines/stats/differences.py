"""Exact statements about the difference of two shares, from counts alone."""

from __future__ import annotations

import math
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import check_level, count, number
from fivenines.stats.estimate import Estimate

__all__ = ["share_difference_exact", "share_difference_p_value"]

_MOST = 400  # items on a side, above which the table of all outcomes takes too long
_STEPS = 24  # differences looked at before the end of an interval is closed in on
_TIE = 1e-9
_CLOSE = 1e-6
_INDEPENDENT = "the items of both sides are independent draws, and the two sides of each other"

FloatArray = NDArray[np.float64]


def share_difference_exact(
    successes: SupportsIndex,
    n: SupportsIndex,
    other_successes: SupportsIndex,
    other_n: SupportsIndex,
    level: float = 0.95,
    *,
    what: str = "difference of shares",
) -> Estimate:
    """The first share minus the other: ``successes`` of ``n`` against ``other_successes`` of ``other_n``.

    Two-sided interval, exact without conditioning: the differences that neither of two one-sided tests with the score
    statistic refuses (:func:`share_difference_p_value`; Chan and Zhang, Biometrics 1999). Above 400 items on a side it
    is the wider one of two Clopper-Pearson intervals, each of which fails half as often. Without items on a side it
    is as wide as that side allows.

    Raises:
        DataError: a count is negative or no whole number, or there are more successes than items.
        ConfigError: ``level`` is not strictly between 0 and 1.

    >>> print(share_difference_exact(10, 50, 0, 50).line)
    difference of shares 0.200 (95%: 0.0977 to 0.338, exact without conditioning, n = 100)
    """
    k, m = _counts(successes, n)
    other_k, other_m = _counts(other_successes, other_n)
    tail = (1.0 - check_level(level)) / 2
    if max(m, other_m) <= _MOST and min(m, other_m) > 0:
        low, high = _lower(k, m, other_k, other_m, tail), -_lower(other_k, other_m, k, m, tail)
        method = "exact without conditioning"
    else:
        own, other = (
            clopper_pearson(*side, tail / 2) if side[1] else (0.0, 1.0)
            for side in ((k, m), (other_k, other_m))
        )
        low, high, method = own[0] - other[1], own[1] - other[0], "exact binomial on each side"
    point = k / m - other_k / other_m if m and other_m else math.nan
    return Estimate(point, low, high, level, m + other_m, method, (_INDEPENDENT,), what)


def share_difference_p_value(
    successes: SupportsIndex,
    n: SupportsIndex,
    other_successes: SupportsIndex,
    other_n: SupportsIndex,
    margin: float = 0.0,
) -> float:
    """P-value of "the first share exceeds the other by ``margin`` at most", against: by more.

    The largest chance, over all pairs of shares that differ by ``margin``, of a table that speaks at least as much for
    more, by the score statistic of Farrington and Manning (Statistics in Medicine 1990); Chan, Statistics in Medicine
    1998. With a margin of 0 it is Barnard's test, which sees more than Fisher's.

    Raises:
        DataError: counts that cannot be, none on a side, or more than 400.
        ConfigError: ``margin`` is not strictly between -1 and 1.
    """
    k, m = _counts(successes, n)
    other_k, other_m = _counts(other_successes, other_n)
    if not 1 <= min(m, other_m) <= max(m, other_m) <= _MOST:
        must = f"must be from 1 to {_MOST} on each side"
        raise DataError(sentence("n", must, f"{m} and {other_m}", "Take share_difference_exact."))
    if not -1.0 < number(margin, "margin") < 1.0:
        raise ConfigError(sentence("margin", "must lie strictly between -1 and 1", margin))
    return _p_value(k, m, other_k, other_m, float(margin))


def _counts(successes: SupportsIndex, n: SupportsIndex) -> tuple[int, int]:
    k, m = count(successes, "successes"), count(n, "n")
    if k > m:
        raise DataError(sentence("successes", f"must not exceed the {m} items", k))
    return k, m


def _lower(k: int, m: int, other_k: int, other_m: int, tail: float) -> float:
    """The least difference that the test does not refuse; what lies below is looked at in 24 steps."""
    # From below, since the p-value need not rise all the way.
    steps = np.linspace(-1.0, k / m - other_k / other_m, _STEPS + 1).tolist()
    kept = [_p_value(k, m, other_k, other_m, step) > tail for step in steps[1:-1]]
    first = kept.index(True) + 1 if True in kept else _STEPS
    low, high = steps[first - 1 : first + 1]
    while high - low > _CLOSE:
        middle = (low + high) / 2
        if _p_value(k, m, other_k, other_m, middle) > tail:
            high = middle
        else:
            low = middle
    return float(low)


def _p_value(k: int, m: int, other_k: int, other_m: int, margin: float) -> float:
    seen = float(_score(np.array([k]), m, np.array([other_k]), other_m, margin)[0])
    first = np.arange(m + 1)
    # For each first count the largest other count of a table that speaks as much for more; -1: none does.
    low, high = np.full(m + 1, -1), np.full(m + 1, other_m)
    while (low < high).any():
        middle = -((-low - high) // 2)  # rounded up
        reaches = _score(first, m, middle, other_m, margin) >= seen - _TIE
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle - 1)
    # Shares of the other side, closer together where chances change faster: by equal steps of the angle.
    lowest, highest = max(0.0, -margin), min(1.0, 1.0 - margin)
    angles = np.linspace(0.0, math.pi / 2, 129 + 8 * math.isqrt(m + other_m))
    shares = lowest + (highest - lowest) * np.sin(angles) ** 2  # (shares,)
    at_most = np.cumsum(_chances(shares, other_m), axis=1)  # (shares, other_m + 1)
    reached = np.where(low >= 0, at_most[:, np.maximum(low, 0)], 0.0)  # (shares, m + 1)
    total = (_chances(np.clip(shares + margin, 0.0, 1.0), m) * reached).sum(axis=1)
    return float(min(1.0, total.max()))


def _chances(shares: FloatArray, n: int) -> FloatArray:
    """P(k of n) for k = 0 ... n, shape (shares, n + 1)."""
    k = np.arange(n + 1.0)
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    q = shares[:, None]
    found: FloatArray = np.exp(ways + special.xlogy(k, q) + special.xlog1py(n - k, -q))
    return found


def _score(
    k: NDArray[np.int64], m: int, other_k: NDArray[np.int64], other_m: int, margin: float
) -> FloatArray:
    """The score statistic of each table: larger where it speaks more for a difference above the margin.

    The variance is that of the likeliest shares that differ by the margin, a root of a cubic (their appendix).
    """
    p, q, ratio = k / m, other_k / other_m, other_m / m
    a = 1.0 + ratio
    b = -(a + p + ratio * q + margin * (ratio + 2.0))
    c = margin**2 + margin * (2.0 * p + a) + p + ratio * q
    d = -p * margin * (1.0 + margin)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    u = np.where(v >= 0, 1.0, -1.0) * np.sqrt(np.maximum((b / (3 * a)) ** 2 - c / (3 * a), 0.0))
    cosine = np.divide(v, u**3, out=np.zeros_like(u), where=np.abs(u) > 1e-12)
    angle = (math.pi + np.arccos(np.clip(cosine, -1.0, 1.0))) / 3
    first = np.clip(2 * u * np.cos(angle) - b / (3 * a), max(0.0, margin), min(1.0, 1.0 + margin))
    other = np.clip(first - margin, 0.0, 1.0)
    variance = first * (1 - first) / m + other * (1 - other) / other_m
    gap = p - q - margin
    # The variance is 0 where the margin leaves one pair of shares alone: a gap is then beyond doubt.
    return np.where(np.abs(gap) < _TIE, 0.0, gap / np.sqrt(np.maximum(variance, 1e-18)))
