"""What an attack costs: confirmed successes per query, second or human minute, and how a defence changes it.

"Fooled" is the classifier's word; a success needs a label that the text still fails. Successes are counted
against the exposure of *all* attempts: the successful, the failed and those that were given up each cost what
they cost. At a constant rate the count is Poisson, so every interval here is exact: no normal theory, and no
success yet still bounds the rate from above and the cost from below.

Where attempts are not alike (prompts of unequal difficulty, attackers of unequal skill) successes do not come
at one constant rate. :func:`fivenines.stats.ratio_bounded` with one entry for each attempt (confirmed, and
exposure over the limit of an attempt) then bounds successes over exposure without that assumption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import bool_array, check_level, check_rate, count, weight_array
from fivenines.stats.estimate import Estimate

__all__ = [
    "AttemptTotals",
    "attack_cost_exact",
    "attack_cost_ratio_exact",
    "attack_rate_exact",
    "attempt_totals",
    "successes_needed",
]

ENOUGH_SUCCESSES = 16  # on each side, where 1.96 sqrt(1/16 + 1/16) = log 2
CONFIRMED = "a success is one that a label confirmed, and the labels are right"
EXPOSURE = "the exposure is that of all attempts: successful, failed and given up"
_ONE_RATE = "successes come at one constant rate"
GIVEN_UP = "attempts were given up without looking at how near they were to a success"
_BY_DESIGN = (
    "the work ended without looking at its successes: its exposure was fixed beforehand, or the number of "
    "attempts and the limit of each, where an attempt ends at its first success or its limit"
)
_BY_SUCCESS = "the work ended at the last of these successes, and their number was fixed beforehand"
_CLOSEST_RATIO = 0.01  # nearer to 1 a ratio takes more than 150,000 successes


@dataclass(frozen=True, slots=True)
class AttemptTotals:
    """Attempts added up: what :func:`attack_rate_exact` takes, and what must not be forgotten beside it.

    ``unconfirmed`` counts attempts that fooled the classifier and have no confirming label. They are no
    successes; as long as some of them merely wait for a label, the rate is too low and the cost too high.
    """

    attempts: int
    successes: int
    given_up: int
    unconfirmed: int
    exposure: float


def attempt_totals(
    exposure: ArrayLike, confirmed: ArrayLike, finished: ArrayLike, *, fooled: ArrayLike | None = None
) -> AttemptTotals:
    """Add up attempts, one entry for each, all of shape (attempts,).

    Args:
        exposure: what the attempt took (queries, seconds, minutes), whatever became of it.
        confirmed: whether a label confirmed its success. To have fooled the classifier is not enough.
        finished: false where the attempt was given up before its success or its limit (censored).
        fooled: whether the classifier was fooled; only to count those that no label confirmed.

    Raises:
        DataError: exposures that are negative or not finite, a confirmed success without exposure, on an
            attempt that was given up, or without the classifier being fooled.
    """
    spent = weight_array(exposure, "exposure")
    success = bool_array(confirmed, "confirmed", spent.size)
    ended = bool_array(finished, "finished", spent.size)
    deceived = success if fooled is None else bool_array(fooled, "fooled", spent.size)
    for wrong, must in (
        (success & (spent <= 0.0), "must not be set on an attempt without exposure"),
        (success & ~ended, "must not be set on an attempt that was given up"),
        (success & ~deceived, "must not be set on an attempt that did not fool the classifier"),
    ):
        if wrong.any():
            first = f"it on attempt {int(wrong.argmax())} (counted from 0)"
            raise DataError(sentence("confirmed", must, first, "Mend the record of the attempt."))
    return AttemptTotals(
        attempts=spent.size,
        successes=int(success.sum()),
        given_up=int((~ended).sum()),
        unconfirmed=int((deceived & ~success).sum()),
        exposure=float(spent.sum()),
    )


def attack_rate_exact(
    successes: SupportsIndex,
    exposure: float,
    level: float = 0.95,
    *,
    unit: str = "query",
    stopped_at_success: bool = False,
) -> Estimate:
    """Confirmed successes per unit of exposure (query, second, human minute).

    Exact interval for a Poisson rate (Garwood, Biometrika 1936): gamma quantiles of shape k below and k + 1
    above, over the exposure. It holds at the stated level at least for an exposure fixed beforehand and, as
    simulation shows for each end (not a proof), for a fixed number of attempts that each end at their first
    success or at a limit. When the work ended at its k-th success (inverse sampling) the exposure is a gamma
    variable and both shapes are k: ``stopped_at_success`` takes that narrower interval, with exactly the
    stated level. Without exposure the interval is [0, inf).

    A query has at most one success, so that counts per query are binomial rather than Poisson. With the
    exposure fixed beforehand this only makes the interval wider than need be. With ``stopped_at_success`` the
    lower end takes rare successes: it fails more often than stated by successes x rate / 2, as a share.

    ``n`` of the estimate counts the successes: they alone decide the relative width.

    Raises:
        DataError: successes that are no whole number or negative, an exposure that is negative or not finite,
            successes without exposure, or work that stopped at a success and has none.
        ConfigError: ``level`` is not strictly between 0 and 1, or ``unit`` is empty.

    >>> print(attack_rate_exact(3, 4_000).line)
    confirmed successes per query 7.5e-04 (95% if successes come at one constant rate: 1.5e-04 to 0.00220, exact \
Poisson over 4,000 queries, n = 3)
    """
    k, spent = count(successes, "successes"), _exposure(exposure, "exposure")
    tail = (1.0 - check_level(level)) / 2
    _check_counts(k, spent, "successes", "exposure")
    if stopped_at_success and k == 0:
        raise DataError(sentence("successes", "must be 1 or more when the work stopped at a success", k))
    units = plural(unit)
    size = f"{spent:,.0f}" if spent.is_integer() else f"{spent:,.6g}"
    method = f"exact Poisson over {size} {units}{', stopped at a success' * stopped_at_success}"
    assumptions = (
        f"successes come at one constant rate per {unit}, in every attempt alike",
        CONFIRMED,
        EXPOSURE,
        _BY_SUCCESS if stopped_at_success else _BY_DESIGN,
        GIVEN_UP,
    )
    what = f"confirmed successes per {unit}"
    if spent == 0.0:
        return Estimate(math.nan, 0.0, math.inf, level, 0, method, assumptions, what, trusts=_ONE_RATE)
    low, high = _poisson_bounds(k, tail, stopped_at_success)
    low, high = min(low, k), max(high, k)  # at a level near 0 the quantiles may leave out the point
    return Estimate(
        k / spent, low / spent, high / spent, level, k, method, assumptions, what, trusts=_ONE_RATE
    )


def attack_cost_exact(
    successes: SupportsIndex,
    exposure: float,
    level: float = 0.95,
    *,
    unit: str = "query",
    stopped_at_success: bool = False,
) -> Estimate:
    """Exposure per confirmed success: the inverse of :func:`attack_rate_exact`, and as exact.

    Without a success the data bound the cost from below only: the upper end is infinite, the point unknown.

    Raises:
        DataError: as :func:`attack_rate_exact`.
        ConfigError: as :func:`attack_rate_exact`.

    >>> print(attack_cost_exact(0, 600, unit="human minute").line)
    human minutes per confirmed success unknown (95% if successes come at one constant rate: 162 to inf, exact \
Poisson over 600 human minutes, n = 0)
    """
    rate = attack_rate_exact(successes, exposure, level, unit=unit, stopped_at_success=stopped_at_success)
    low, high = (math.inf if bound == 0.0 else 1.0 / bound for bound in (rate.high, rate.low))
    point = 1.0 / rate.point if rate.point > 0.0 else math.nan  # NaN is not above 0
    what = f"{plural(unit)} per confirmed success"
    return Estimate(point, low, high, level, rate.n, rate.method, rate.assumptions, what, trusts=rate.trusts)


def attack_cost_ratio_exact(
    successes_before: SupportsIndex,
    exposure_before: float,
    successes_after: SupportsIndex,
    exposure_after: float,
    level: float = 0.95,
) -> Estimate:
    """Cost after over cost before: 2 means that a success takes twice the exposure.

    Exact interval (Przyborowski and Wilenski, Biometrika 1940): given their sum, the successes before are
    binomial, with odds rate_before exposure_before : rate_after exposure_after. Clopper-Pearson bounds that
    share, and its odds give the ratio. The interval contains the one for work that stopped at a success on
    both sides. No success after leaves the upper end infinite, none before the lower end at 0.

    Raises:
        DataError: as :func:`attack_rate_exact`, for either side.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    before, after = count(successes_before, "successes_before"), count(successes_after, "successes_after")
    spent_before = _exposure(exposure_before, "exposure_before")
    spent_after = _exposure(exposure_after, "exposure_after")
    tail = (1.0 - check_level(level)) / 2
    _check_counts(before, spent_before, "successes_before", "exposure_before")
    _check_counts(after, spent_after, "successes_after", "exposure_after")
    point, low, high = math.nan, 0.0, math.inf
    if before + after and spent_before > 0.0 and spent_after > 0.0:
        longer = spent_after / spent_before
        least, most = _odds_bounds(before, after, tail)
        low, high = least * longer, most * longer if most < math.inf else math.inf
        point = before / after * longer if after else math.nan
    assumptions: tuple[str, ...] = (
        "successes come at one constant rate per unit on each side, and the two sides are independent",
        "both sides count the same unit, and the same attackers and goals met both",
        CONFIRMED,
        EXPOSURE,
        _BY_DESIGN,
        GIVEN_UP,
    )
    if min(before, after) < ENOUGH_SUCCESSES:
        assumptions = (_too_few(before, after, tail), *assumptions)
    what = "attack cost ratio, after over before"
    n, method = before + after, "exact conditional binomial"
    return Estimate(point, low, high, level, n, method, assumptions, what, trusts=_ONE_RATE)


def successes_needed(ratio: float, level: float = 0.95, power: float = 0.8) -> int:
    """How many confirmed successes each side needs to show that a cost changed by the factor ``ratio``.

    The exposures are taken such that both sides expect as many successes (at a ratio of 2, twice the exposure
    after). Given 2 k successes in all, those before are binomial with share 1/2 at this ratio, and with share
    1 / (1 + ratio) if nothing changed. The answer is the smallest k from which on the two-sided interval of
    :func:`attack_cost_ratio_exact` excludes 1, on the right side, with probability ``power`` at least:
    counted in the binomial, no normal theory. A ratio below 1 needs as many as its inverse.

    Raises:
        ConfigError: ``level`` or ``power`` is not strictly between 0 and 1, or ``ratio`` is not positive and
            finite, or within a hundredth of 1.
    """
    tail = (1.0 - check_level(level)) / 2
    check_rate(power, "power")
    if not (0.0 < ratio < math.inf):
        raise ConfigError(sentence("ratio", "must be positive and finite", ratio))
    factor = max(ratio, 1.0 / ratio)
    if factor < 1.0 + _CLOSEST_RATIO:
        then = "So small a change takes more than 150,000 successes a side."
        raise ConfigError(sentence("ratio", "must differ from 1 by a hundredth at least", ratio, then))
    share, high = 1.0 / (1.0 + factor), 1
    while _power(np.array([high]), share, tail)[0] < power:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(np.array([middle]), share, tail)[0] >= power else (middle, high)
    # The power saws as it rises, with teeth of about sqrt(k): look for its last fall below the goal.
    reach = 64 + math.ceil(20.0 * math.sqrt(high))
    sides = np.arange(max(1, high - reach), high + reach)
    short = np.flatnonzero(_power(sides, share, tail) < power)
    return int(sides[short[-1]]) + 1 if short.size else int(sides[0])


def _power(k: NDArray[np.int64], share: float, tail: float) -> NDArray[np.float64]:
    """P(2k fair coins show more heads than a share of ``share`` would, but for a chance of ``tail``)."""
    n = 2.0 * k
    # smallest c with P(Binomial(n, share) >= c) <= tail; bdtrik may miss by one, so its neighbours are tried
    near = np.maximum(np.ceil(special.bdtrik(1.0 - tail, n, share)) + 2.0, 1.0)
    for _ in range(3):
        lower = np.maximum(near - 1.0, 1.0)
        near = np.where(special.betainc(lower, n - lower + 1.0, share) <= tail, lower, near)
    reached = special.betainc(np.minimum(near, n), np.maximum(n - near + 1.0, 1.0), 0.5)
    power: NDArray[np.float64] = np.where(near > n, 0.0, reached)
    return power


def _poisson_bounds(k: int, tail: float, stopped_at_success: bool) -> tuple[float, float]:
    """Bounds on the mean of a Poisson count k that each fail with probability ``tail`` at most."""
    if k == 0:
        return 0.0, -math.log(tail)
    above = k if stopped_at_success else k + 1
    return float(special.gammaincinv(k, tail)), float(special.gammainccinv(above, tail))


def _odds_bounds(before: int, after: int, tail: float) -> tuple[float, float]:
    """Bounds on share / (1 - share) of the successes that came before; both shares keep all their digits."""
    low, high = clopper_pearson(before, before + after, tail)
    rest_low, rest_high = clopper_pearson(after, before + after, tail)
    return low / rest_high, math.inf if rest_low == 0.0 else high / rest_low


def _too_few(before: int, after: int, tail: float) -> str:
    text = (
        f"fewer than {ENOUGH_SUCCESSES} successes on a side ({before} before, {after} after): "
        "too few to show a doubling"
    )
    if not (before and after):
        return text
    least = before / after / _odds_bounds(before, after, tail)[0]
    return f"{text} reliably; at these counts a ratio below {least:.3g} cannot be told from 1"


def _exposure(value: float, name: str) -> float:
    try:
        spent = float(value)
    except (TypeError, ValueError):
        raise DataError(sentence(name, "must be a number", value)) from None
    if not math.isfinite(spent) or spent < 0.0:
        raise DataError(sentence(name, "must be finite and not negative", spent))
    return spent


def _check_counts(k: int, spent: float, successes: str, exposure: str) -> None:
    if k and spent == 0.0:
        raise DataError(sentence(exposure, f"must be positive where {successes} is {k}", spent))


def plural(unit: str) -> str:
    """The unit of exposure in the plural: queries, seconds, human minutes. Raises ConfigError."""
    if not unit.strip():
        raise ConfigError(sentence("unit", "must name one unit of exposure", repr(unit), 'Write "query".'))
    return f"{unit[:-1]}ies" if unit.endswith("y") and unit[-2:-1] not in "aeiou" else f"{unit}s"
