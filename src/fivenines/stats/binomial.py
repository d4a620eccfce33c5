"""Exact statements about a share, from counts alone."""

from __future__ import annotations

import math
from typing import SupportsIndex

from scipy import special

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.checks import check_level, check_rate, count
from fivenines.stats.estimate import Estimate

__all__ = [
    "binomial_p_value",
    "clopper_pearson",
    "failure_rate_exact",
    "sample_size_exact",
    "share_exact",
    "zero_failure_sample_size",
]

INDEPENDENT = "the labelled items are independent draws from the distribution that the rate speaks of"
LABELS = "the labels are right"
LEAST_RATE = 1e-12  # that is planned for: beyond it nobody counts


def failure_rate_exact(
    failures: SupportsIndex, n: SupportsIndex, level: float = 0.95, *, what: str = "failure rate"
) -> Estimate:
    """The failure rate behind ``failures`` among ``n`` labelled items.

    Two-sided interval of Clopper and Pearson (Biometrika 1934): it contains the true rate with at least the
    stated probability at every rate and every n, zero failures included, and trusts no classifier. Without
    items it is [0, 1].

    Raises:
        DataError: a count is negative or no whole number, or there are more failures than items.
        ConfigError: ``level`` is not strictly between 0 and 1.

    >>> print(failure_rate_exact(failures=3, n=100_000))
    failure rate 3.0e-05 (95%: 6.1e-06 to 8.8e-05, exact binomial, n = 100,000): at least 4.0 nines
      assumes: the labelled items are independent draws from the distribution that the rate speaks of
      assumes: the labels are right
    """
    failures, n = count(failures, "failures"), count(n, "n")
    if failures > n:
        raise DataError(sentence("failures", f"must not exceed the {n} items", failures))
    return _exact(failures, n, level, what, (INDEPENDENT, LABELS))


def share_exact(
    successes: SupportsIndex, n: SupportsIndex, level: float = 0.95, *, what: str = "share"
) -> Estimate:
    """A share that is no failure rate (acceptance, abstention), by the same exact interval.

    Raises:
        DataError: a count is negative or no whole number, or there are more successes than items.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    successes, n = count(successes, "successes"), count(n, "n")
    if successes > n:
        raise DataError(sentence("successes", f"must not exceed the {n} items", successes))
    return _exact(successes, n, level, what, ("the items are independent draws",))


def clopper_pearson(successes: float, n: float, tail: float) -> tuple[float, float]:
    """Bounds on a share that each fail with probability ``tail`` at most.

    ``successes`` need not be whole (ties count a half); the bounds are then beta quantiles between those of
    the neighbouring counts.
    """
    low = 0.0 if successes <= 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    if successes >= n:
        high = 1.0
    elif successes <= 0:  # the closed form keeps all digits where the inverse would lose them
        high = -math.expm1(math.log(tail) / n)
    else:
        high = float(special.betainccinv(successes + 1, n - successes, tail))
    return low, high


def binomial_p_value(failures: SupportsIndex, n: SupportsIndex, max_rate: float) -> float:
    """P(at most ``failures`` in ``n``) at a true rate of ``max_rate``: p-value of "the rate is above that".

    The exact p-value that Learn then Test (arXiv 2110.01052) needs for a loss of 0 or 1; Hoeffding-Bentkus,
    its bound for other losses, is never smaller.

    Raises:
        DataError: counts that cannot be.
        ConfigError: ``max_rate`` is not strictly between 0 and 1.
    """
    failures, n = count(failures, "failures"), count(n, "n")
    check_rate(max_rate, "max_rate")
    if failures > n:
        raise DataError(sentence("failures", f"must not exceed the {n} items", failures))
    return 1.0 if failures == n else float(special.betaincc(failures + 1, n - failures, max_rate))


def zero_failure_sample_size(rate: float, confidence: float = 0.95) -> int:
    """How many labels without a failure show, at this confidence, that the rate is at most ``rate``.

    Raises:
        ConfigError: ``rate`` or ``confidence`` is not strictly between 0 and 1.

    >>> zero_failure_sample_size(1e-4)
    29956
    """
    return sample_size_exact(0, rate, confidence)


def sample_size_exact(misses: SupportsIndex, max_rate: float, confidence: float = 0.95) -> int:
    """The smallest n at which ``misses`` in n still show, at this confidence, a rate of at most ``max_rate``.

    Raises:
        DataError: ``misses`` is negative or no whole number.
        ConfigError: ``max_rate`` or ``confidence`` is not strictly between 0 and 1, or a rate below 1e-12.
    """
    misses = count(misses, "misses")
    alpha = 1.0 - check_level(confidence, "confidence")
    if check_rate(max_rate, "max_rate") < LEAST_RATE:
        raise ConfigError(sentence("max_rate", f"must be at least {LEAST_RATE:g}", max_rate))
    enough, short = misses + 1, misses
    while binomial_p_value(misses, enough, max_rate) > alpha:
        short, enough = enough, 2 * enough
    while enough - short > 1:
        middle = (short + enough) // 2
        if binomial_p_value(misses, middle, max_rate) > alpha:
            short = middle
        else:
            enough = middle
    return enough


def _exact(k: int, n: int, level: float, what: str, assumptions: tuple[str, ...]) -> Estimate:
    check_level(level)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, level, 0, "exact binomial", assumptions, what)
    low, high = clopper_pearson(k, n, (1.0 - level) / 2)
    return Estimate(k / n, low, high, level, n, "exact binomial", assumptions, what)
