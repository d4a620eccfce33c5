"""Preferences from raters who differ, from unequal samples, and between two policies; and a test of quality.

As in :mod:`fivenines.stats.quality`: 1 is a win, 0 a loss and 0.5 a tie (or the mean of several raters), and
where two texts are the same nobody judges. Swapping wins and losses swaps the ends of every interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.stats.betting import Items, betting_upper
from fivenines.stats.binomial import binomial_p_value, share_exact
from fivenines.stats.checks import bool_array, check_level, check_rate, count, probability_array, value_array
from fivenines.stats.estimate import Estimate
from fivenines.stats.quality import _BLIND, _RATE_SHARE, _rejections, preference_exact, quality_box
from fivenines.stats.stratified import strata_of

__all__ = [
    "RaterEffect",
    "preference_clustered",
    "preference_coupled_by",
    "preference_difference",
    "preference_stratified",
    "preference_weighted",
    "quality_no_worse_p_value",
    "rater_effect",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RaterEffect:
    """What it costs that pairs come by raters: a summary without an interval, NaN where it cannot be known.

    ``correlation`` is that of two preferences of one rater, ``design_effect`` by how much it multiplies the
    variance of the mean; ``effective_pairs``, each with a rater of its own, would say as much.
    """

    raters: int
    pairs: int
    correlation: float
    design_effect: float
    effective_pairs: float

    def __str__(self) -> str:
        effect = f"correlation in a rater {self.correlation:.3f}, design effect {self.design_effect:.2f}"
        return f"{self.raters:,} raters: {effect}, {self.pairs:,} pairs worth {self.effective_pairs:,.0f}"


def rater_effect(preferences: ArrayLike, raters: ArrayLike) -> RaterEffect:
    """How much raters differ, and how many independent pairs their pairs are worth.

    Args:
        preferences: in [0, 1], shape (pairs,).
        raters: who judged each pair, whole numbers or names, shape (pairs,).

    Correlation: (MSB - MSW) / (MSB + (n0 - 1) MSW) with the mean squares between and within raters, where
    n0 = (N - sum n_i^2 / N) / (raters - 1); ICC(1,1) of Shrout and Fleiss (Psychological Bulletin 1979), for
    unequal numbers Donner (International Statistical Review 1986). Design effect: 1 + (sum n_i^2 / N - 1)
    correlation (Kish, Survey Sampling, 1965), a negative one taken as 0. Unknown without variation.

    Raises:
        DataError: preferences outside [0, 1], raters that are neither whole numbers nor names.
    """
    values = probability_array(preferences, "preferences")
    codes, sums, counts = _by_rater(values, raters)
    n, k = values.size, counts.size
    if k < 2 or n == k or values.min() == values.max():
        return RaterEffect(k, n, math.nan, math.nan, math.nan)
    means, average = sums / counts, float((counts**2).sum()) / n  # (raters,); pairs of a random pair's rater
    between = float((counts * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[codes]) ** 2).sum()) / (n - k)
    correlation = (between - within) / (between + ((n - average) / (k - 1) - 1.0) * within)
    effect = 1.0 + (average - 1.0) * max(correlation, 0.0)
    return RaterEffect(k, n, correlation, effect, n / effect)


def preference_clustered(
    preferences: ArrayLike, raters: ArrayLike, max_per_rater: SupportsIndex | None, level: float = 0.95
) -> Estimate:
    """The mean preference over a population of raters who differ, each of whom judged some pairs.

    Args:
        preferences: in [0, 1], shape (pairs,).
        raters: who judged each pair, whole numbers or names, shape (pairs,).
        max_per_rater: the most pairs that a rater could have been given, known before rating. Raters then
            count by the pairs they judged: E[sum of a rater's preferences] / E[number of a rater's pairs].
            None: every rater counts once, by the mean of their preferences.

    The independent units are the raters, and ``n`` counts them. The interval (betting) holds for any number of
    raters, however unlike and unequally busy, and is wide for few; :func:`rater_effect` says what that cost.

    Raises:
        DataError: preferences outside [0, 1], raters that are neither numbers nor names, or above the maximum.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    values = probability_array(preferences, "preferences")
    _, sums, counts = _by_rater(values, raters)
    notes: tuple[str, ...] = ("raters, with the pairs that each judged, are independent draws", _BLIND)
    if max_per_rater is None:
        notes = ("every rater counts once, however many pairs they judged", *notes)
        return _bet(sums / counts, np.ones(counts.size), 1.0, level, notes, "raters, betting")
    cap, most = count(max_per_rater, "max_per_rater"), int(counts.max(initial=1))
    if most > cap:
        raise DataError(sentence("max_per_rater", f"must be at least the {most} pairs that a rater has", cap))
    notes = ("raters count by the pairs they judged", f"no rater could judge more than {cap} pairs", *notes)
    return _bet(sums / cap, counts / cap, 1.0, level, notes, "raters, betting")


def preference_coupled_by(
    rejected_first: ArrayLike | SupportsIndex,
    preferred: Callable[[float], Estimate],
    level: float = 0.95,
    *,
    n: SupportsIndex | None = None,
) -> Estimate:
    """Quality by coupling, (1 - r) / 2 + r p, where p is estimated in whatever way its sample asks for.

    Args:
        rejected_first: whether the first draw was rejected, shape (prompts,); or how many were, with ``n``.
        preferred: the preference for the filtered completion where the first draw was rejected, at the level
            that it is called with: ``lambda level: preference_clustered(wins, raters, 50, level)`` where
            raters differ, or with :func:`preference_weighted` or :func:`preference_stratified`.

    The interval is that of :func:`preference_coupled`, with ``preferred`` for p; what it trusts is kept.

    Raises:
        DataError: counts that cannot be, or more preferences than first draws that were rejected.
        ConfigError: ``level`` is not strictly between 0 and 1, or ``preferred`` does not heed its own.
    """
    check_level(level)
    rejected, prompts = _rejections(rejected_first, n)
    share, rest = _split(rejected, prompts, level)
    found = preferred(rest)
    if found.level < rest - 1e-12:
        raise ConfigError(sentence("preferred", f"must be at the level of {rest:.6g} asked for", found.level))
    _check_rejected(found.n, rejected)
    low, high = quality_box([(share.low, share.high, found.low, found.high)])
    point = 0.5 if prompts and not rejected else 0.5 + share.point * (found.point - 0.5)
    notes = (
        *_only_bound(rejected, found.n, "rejected first draws"),
        "the unfiltered completion is the filter's first draw",
        "judged pairs are sampled among the prompts with a rejected first draw",
        *found.assumptions,
    )
    how = f"coupled, {found.method}"
    return Estimate(point, low, high, level, prompts, how, notes, "quality", found.approximate, found.trusts)


def preference_weighted(
    preferences: ArrayLike, weights: ArrayLike, weight_bound: float, level: float = 0.95
) -> Estimate:
    """The mean preference of a population of pairs, from pairs that were sampled with unequal probabilities.

    Args:
        preferences: in [0, 1], shape (pairs,).
        weights: 1 / sampling probability of each pair, up to a constant, above 0, shape (pairs,).
        weight_bound: the largest weight that the design could give, known before sampling.

    Point: sum(w v) / sum(w). The interval (betting) holds for any number of pairs; one may look and stop.

    Raises:
        DataError: preferences outside [0, 1], weights that are not positive, not finite or above the bound.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    values = probability_array(preferences, "preferences")
    w, bound = value_array(weights, "weights", values.size), float(weight_bound)
    if not (math.isfinite(bound) and bound > 0.0):
        raise DataError(sentence("weight_bound", "must be finite and positive", bound))
    wrong = w[(w <= 0.0) | (w > bound)]
    if wrong.size:
        raise DataError(sentence("weights", f"must lie above 0, and at most {bound:g}", float(wrong[0])))
    notes = (
        "weights are right up to a constant",
        f"no pair can have a weight above {bound:.6g}",
        "judged pairs are independent draws from the design",
        _BLIND,
    )
    return _bet(w * values, w, bound, level, notes, "weighted, betting")


def preference_stratified(
    preferences: ArrayLike, strata: ArrayLike, shares: ArrayLike, level: float = 0.95
) -> Estimate:
    """The mean preference sum_s share_s p_s from pairs of strata whose shares of the population are known.

    Args:
        preferences: in [0, 1], shape (pairs,).
        strata: the stratum of each pair, whole numbers from 0, shape (pairs,).
        shares: share of each stratum in the population, shape (strata,); they sum to 1.

    A pair of stratum s counts with the weight share_s N / n_s, and the bets are on independent pairs that are
    not alike (:mod:`fivenines.stats.betting`): many strata cost no more than the one sampled most thinly.

    Raises:
        DataError: preferences outside [0, 1], strata without a share, shares that do not sum to 1 or lack pairs.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    values = probability_array(preferences, "preferences")
    numbers, size = value_array(strata, "strata", values.size), np.asarray(shares).size
    wrong = numbers[(numbers < 0) | (numbers >= size) | (numbers != np.floor(numbers))]
    if wrong.size:
        raise DataError(sentence("strata", f"must be whole numbers from 0 to {size - 1}", float(wrong[0])))
    codes = numbers.astype(np.int64)  # (pairs,)
    _, counts, mass = strata_of(np.zeros(size), np.bincount(codes, minlength=size), shares)
    weights = mass * values.size / np.maximum(counts, 1.0)  # (strata,)
    notes = (
        "the shares of the strata are known, or so well known that their error does not matter",
        "within a stratum the judged pairs are a simple random sample of a size fixed beforehand",
        _BLIND,
    )
    w, held = weights[codes], weights[codes] > 0.0  # a stratum without mass is not of the population
    return _bet((w * values)[held], w[held], float(weights.max()), level, notes, "stratified, betting")


def preference_difference(
    same: ArrayLike, first: ArrayLike, second: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """How much better raters like one policy than another (first accepted, safest of ten) on equal prompts.

    Args:
        same: whether both policies return the same text, shape (prompts,): a difference of 0 that nobody judges.
        first: alone, the preference for the first policy's text over the second's, shape (prompts,), NaN where
            not judged. The estimate is then P(first preferred) - P(second preferred).
        second: given, both are preferences over the *same* unfiltered draw (0.5 where the text is that draw),
            NaN in both where not judged. The estimate is the first policy's quality less the second's.

    The difference is s d, with s the share of prompts whose texts differ, d the mean difference there. Interval:
    extremes over Clopper-Pearson for s at a tenth of the error budget and :func:`preference_exact` (one judgement)
    or betting (two) for d at the rest. None judged leaves a bound from s.

    Raises:
        DataError: arrays that do not fit, preferences outside [0, 1], or only one of two judged.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    differ = ~bool_array(same, "same")
    values = _judged(first, "first", differ)
    if second is not None:
        other = _judged(second, "second", differ)
        if (np.isnan(values) != np.isnan(other)).any():
            raise DataError(sentence("first and second", "must both be judged, or neither", "one of them"))
        values = 0.5 + (values - other) / 2
    values = values[~np.isnan(values)]
    share, rest = _split(differing := int(differ.sum()), differ.size, level)
    notes = (
        *_only_bound(differing, values.size, "prompts that differ"),
        "prompts are independent draws from their distribution",
        "judged prompts are a random sample of those where the texts differ",
        _BLIND,
    )
    found, what, method = preference_exact(values, rest), "net preference", "paired, exact"
    if second is not None:  # quarters, which scatter less than wins and losses: bets are narrower
        found = _bet(values, np.ones(values.size), 1.0, rest, (), "")
        what, method = "quality difference", "paired, betting"
    low, high = quality_box([(share.low, share.high, found.low, found.high)])
    point = 0.0 if differ.size and not differing else share.point * (2.0 * found.point - 1.0)
    return Estimate(point, 2.0 * low - 1.0, 2.0 * high - 1.0, level, differ.size, method, notes, what)


def quality_no_worse_p_value(
    rejected: SupportsIndex, prompts: SupportsIndex, preferences: ArrayLike, limit: float = 0.48
) -> float:
    """p-value of "quality is below ``limit``", against "it is no worse", at any sample size.

    Args:
        rejected: how many of the ``prompts`` had their first draw rejected.
        preferences: as for :func:`preference_coupled`; none leaves quality >= (1 - r) / 2, from r alone.
        limit: the quality to be held.

    It is at most alpha exactly when the lower end of :func:`preference_coupled` at level 1 - 2 alpha reaches the
    limit: the largest over r of min(P(no more rejected | r) / 0.1, P(no fewer wins and half ties | p) / 0.45), p
    the preference at which quality is the limit. As r has its own tenth of the error, one may look at it first.

    Raises:
        DataError: counts that cannot be, preferences outside [0, 1] or more than rejected first draws.
        ConfigError: ``limit`` is not strictly between 0 and 1.
    """
    check_rate(limit, "limit")
    k, n = _rejections(rejected, prompts)
    values = probability_array(preferences, "preferences")
    _check_rejected(values.size, k)
    halves = bool(np.isin(values, (0.0, 0.5, 1.0)).all())
    wins = float(values.sum()) if halves else math.floor(values.sum())

    def of_share(r: float) -> float:  # P(as few rejected), or as many where quality is above a half
        return (binomial_p_value(k, n, r) if limit <= 0.5 else _at_least(k, n, r)) / _RATE_SHARE

    def of_preference(r: float) -> float:
        return 2.0 * _at_least(wins, values.size, 0.5 + (limit - 0.5) / r) / (1.0 - _RATE_SHARE)

    rising, falling = (of_preference, of_share) if limit <= 0.5 else (of_share, of_preference)
    low, high = 1e-300, 1.0  # the smaller of the two is largest where they cross
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if rising(middle) < falling(middle) else (low, middle)
    return min(1.0, rising(high), falling(low))


def _at_least(k: float, n: int, p: float) -> float:
    """P(at least k of n), k whole or half; 0 where the rate had to be below 0 (no such preference exists)."""
    if p <= 0.0 or k <= 0 or p >= 1.0:
        return float(p > 0.0)
    return float(special.betainc(k, n - k + 1, p))


def _bet(
    x: FloatArray, d: FloatArray, bound: float, level: float, assumptions: tuple[str, ...], method: str
) -> Estimate:
    """E[x] / E[d] for 0 <= x <= d <= bound; both ends by the same bets, so that losses mirror wins."""
    n, tail = x.size, (1.0 - level) / 2
    if not n:
        return Estimate(math.nan, 0.0, 1.0, level, n, method, assumptions, "preference")
    won, lost = (Items(each, d, bound, bound, "nested") for each in (x, d - x))
    point = won.totals[0] / won.totals[1]
    low, high = 1.0 - betting_upper(lost, tail), betting_upper(won, tail)
    return Estimate(min(point, 1.0), low, high, level, n, method, assumptions, "preference")


def _only_bound(pairs: int, judged: int, of: str) -> tuple[str, ...]:
    return (f"no pair was judged: only a bound, from the share of {of}",) if pairs and not judged else ()


def _check_rejected(judged: int, rejected: int) -> None:
    if judged > rejected:
        raise DataError(
            sentence("preferences", f"must not exceed the {rejected} rejected first draws", judged)
        )


def _split(k: int, n: int, level: float) -> tuple[Estimate, float]:
    """The share k / n at a tenth of the error budget, and the level that leaves the rest."""
    alpha = 1.0 - level
    return share_exact(k, n, 1.0 - alpha * _RATE_SHARE), 1.0 - alpha * (1.0 - _RATE_SHARE)


def _judged(values: ArrayLike, name: str, differ: NDArray[np.bool_]) -> FloatArray:
    """The preferences of the prompts that differ, NaN where not judged."""
    known = np.array(values)
    blank = known != known  # NaN, whatever the type
    known[blank] = 0.5
    return np.where(blank, np.nan, probability_array(known, name, differ.size))[differ]


def _by_rater(values: FloatArray, raters: ArrayLike) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """The rater's number for each pair, shape (pairs,); sums and counts, each of shape (raters,)."""
    # As objects first: numpy would turn [1, "b"] or ["a", nan] into names without a word.
    array = np.asarray(raters, dtype=None if isinstance(raters, np.ndarray) else object)
    if array.ndim != 1 or array.size != values.size:
        raise DataError(sentence("raters", f"must name one for each of the {values.size} pairs", array.shape))
    kinds = set(map(type, array)) if array.dtype.kind == "O" else {array.dtype.type}
    if not any(all(issubclass(kind, wanted) for kind in kinds) for wanted in ((int, np.integer), str)):
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(sentence("raters", "must be all whole numbers or all names", got))
    _, codes = np.unique(array.astype(np.str_) if str in kinds else array, return_inverse=True)
    sums = np.bincount(codes, weights=values).astype(np.float64)
    return codes.astype(np.int64), sums, np.bincount(codes).astype(np.float64)
