"""Hard cases for the cost of attacks: few successes, inverse sampling, limits, heavy censoring, late times.

The intervals that may be infinite (no success, a median that is not reached) are so in some draws: their width
is to be read as a median.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.coverage.case import Case, Drawn
from fivenines.stats import Estimate
from fivenines.stats.attack_cost import attack_cost_exact, attack_cost_ratio_exact, attack_rate_exact
from fivenines.stats.survival import SurvivalCurve, survival_curve

__all__ = ["cases"]

LEVEL = 0.95
Z = float(special.ndtri((1.0 + LEVEL) / 2))
Draw = Callable[[np.random.Generator], Drawn]
Ends = Callable[[np.random.Generator, int], NDArray[np.float64]]  # when attempts would be given up


def cases() -> list[Case]:
    return [*_rates(), *_ratios(), *_survival(), *_medians()]


# --- rates and costs


def _rates() -> list[Case]:
    method, plain = "attack_rate_exact", "Wald, k ± 1.96 √k"
    found = [
        Case(method, f"rate {rate:g}, {spent:,} queries", rate, _fixed(rate, spent), plain)
        for rate, spent in ((1e-2, 200), (1e-3, 1_000), (1e-4, 50_000), (1e-5, 50_000), (1e-5, 1_000_000))
    ]
    found += [
        Case(
            method, f"rate {rate:g}, {n} attacks of at most {limit:,}", rate, _limited(rate, n, limit), plain
        )
        for rate, n, limit in ((1e-3, 30, 1_000), (1e-2, 10, 1_000), (1e-4, 100, 300))
    ]
    found += [
        Case(method, f"rate 1e-3, ended at success {k}", 1e-3, _inverse(1e-3, k), plain) for k in (1, 2, 8)
    ]
    cost, plain_cost = "attack_cost_exact", "delta method, T/k ± 1.96 T/k^1.5"
    found += [
        Case(cost, f"cost 1,000, ended at success {k}", 1e3, _inverse_cost(k), plain_cost) for k in (2, 8)
    ]
    return found


def _fixed(rate: float, spent: int) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        k = int(rng.poisson(rate * spent))
        return attack_rate_exact(k, spent, LEVEL), _wald_rate(k, spent)

    return draw


def _limited(rate: float, n: int, limit: int) -> Draw:
    """Whole queries, each a success or not; an attack ends at its first success or at its limit."""

    def draw(rng: np.random.Generator) -> Drawn:
        k, spent = _attacks(rng, rate, n, limit)
        return attack_rate_exact(k, spent, LEVEL), _wald_rate(k, spent)

    return draw


def _inverse(rate: float, k: int) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        spent = float(rng.gamma(k) / rate)
        return attack_rate_exact(k, spent, LEVEL, stopped_at_success=True), _wald_rate(k, spent)

    return draw


def _inverse_cost(k: int) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        spent = float(rng.gamma(k) * 1e3)
        point, error = spent / k, Z * spent / k**1.5
        return (
            attack_cost_exact(k, spent, LEVEL, stopped_at_success=True),
            _plain(point, max(point - error, 0.0), point + error, k),
        )

    return draw


def _attacks(rng: np.random.Generator, rate: float, n: int, limit: int) -> tuple[int, int]:
    first = rng.geometric(rate, size=n)
    return int((first <= limit).sum()), int(np.minimum(first, limit).sum())


def _wald_rate(k: int, spent: float) -> Estimate:
    error = Z * math.sqrt(k)
    return _plain(k / spent, max(k - error, 0.0) / spent, (k + error) / spent, k)


# --- ratios


def _ratios() -> list[Case]:
    settings = (
        (1e-3, 2_000, 1.0, 2_000),
        (1e-3, 5_000, 2.0, 10_000),
        (1e-2, 1_600, 2.0, 3_200),
        (1e-4, 200_000, 5.0, 20_000),
    )
    return [
        Case(
            "attack_cost_ratio_exact",
            f"{before * rate:g} and {after * rate / ratio:g} successes expected, ratio {ratio:g}",
            ratio,
            _ratio(rate, before, ratio, after),
            "log-normal, a half added to each count",
        )
        for rate, before, ratio, after in settings
    ] + [
        Case(
            "attack_cost_ratio_exact",
            "20 attacks of at most 500 on each side, rates 1e-3 and 5e-4",
            2.0,
            _ratio_limited,
            "log-normal, a half added to each count",
        )
    ]


def _ratio(rate: float, before: int, ratio: float, after: int) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        counts = int(rng.poisson(rate * before)), int(rng.poisson(rate / ratio * after))
        return _ratio_pair(counts[0], before, counts[1], after)

    return draw


def _ratio_limited(rng: np.random.Generator) -> Drawn:
    return _ratio_pair(*_attacks(rng, 1e-3, 20, 500), *_attacks(rng, 5e-4, 20, 500))


def _ratio_pair(before: int, spent_before: float, after: int, spent_after: float) -> Drawn:
    b, a = before + 0.5, after + 0.5
    point, error = b / a * spent_after / spent_before, Z * math.sqrt(1 / b + 1 / a)
    plain = _plain(point, point * math.exp(-error), point * math.exp(error), before + after)
    return attack_cost_ratio_exact(before, spent_before, after, spent_after, LEVEL), plain


# --- survival


def _survival() -> list[Case]:
    settings: tuple[tuple[str, int, float, Ends], ...] = (
        ("1 in 100 succeeds by the limit, 50 attacks", 50, 0.01005, _at_limit),
        ("half succeed by the limit, 12 attacks", 12, math.log(2), _at_limit),
        ("half given up by then, 20 attacks, 70% left", 20, 0.357, _uniform(0.714)),
        ("most given up by then, 30 attacks, 20% left", 30, 1.61, _uniform(2.0)),
        ("exponential giving up, 30 attacks, 10% left", 30, 2.303, _exponential(1.0)),
        ("heavy giving up, 100 attacks, 5% left", 100, 3.0, _exponential(0.7)),
        ("heavy giving up, 25 attacks, 50% left", 25, math.log(2), _exponential(0.4)),
        ("given up in waves, 40 attacks, 30% left", 40, 1.204, _waves),
        ("9 in 10 given up at once, 100 attacks, 30% left", 100, 1.204, _cliff),
    )
    return [
        Case("SurvivalCurve.at", setting, math.exp(-time), _at(n, time, ends), "Greenwood, S ± 1.96 se")
        for setting, n, time, ends in settings
    ]


def _medians() -> list[Case]:
    settings: tuple[tuple[str, int, Ends], ...] = (
        ("15 attacks, half given up", 15, _exponential(1.0)),
        ("40 attacks, a third given up", 40, _uniform(3.0)),
        ("60 attacks of at most the third quartile", 60, lambda rng, n: np.full(n, math.log(4))),
    )
    return [
        Case("SurvivalCurve.median", setting, math.log(2), _median(n, ends), "Greenwood's limits inverted")
        for setting, n, ends in settings
    ]


def _at(n: int, time: float, ends: Ends) -> Draw:
    """Exponential times to success of mean 1, so that exp(-time) are left at ``time``; a limit lies there."""

    def draw(rng: np.random.Generator) -> Drawn:
        curve = _curve(rng, n, np.minimum(ends(rng, n), time) if ends is _at_limit else ends(rng, n))
        point, error = _greenwood(curve, time)
        return curve.at(time), _plain(point, max(point - error, 0.0), min(point + error, 1.0), n)

    return draw


def _median(n: int, ends: Ends) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        curve = _curve(rng, n, ends(rng, n))
        limits = [_greenwood(curve, time) for time in curve.times]
        low = next(
            (t for t, (s, e) in zip(curve.times, limits, strict=True) if s - e <= 0.5), curve.times[-1]
        )
        high = next((t for t, (s, e) in zip(curve.times, limits, strict=True) if s + e < 0.5), math.inf)
        found = curve.median()
        return found, _plain(found.point, float(low), float(high), n)

    return draw


def _curve(rng: np.random.Generator, n: int, ends: NDArray[np.float64]) -> SurvivalCurve:
    first = rng.exponential(size=n)
    return survival_curve(np.minimum(first, ends), first <= ends, LEVEL)


def _greenwood(curve: SurvivalCurve, time: float) -> tuple[float, float]:
    """Kaplan-Meier's point and 1.96 of Greenwood's standard errors, held beyond the last attempt."""
    past = curve.times <= time
    d, y = curve.confirmed[past], curve.at_risk[past]
    point = float(np.prod(1.0 - d / y))
    if point == 0.0:
        return 0.0, 0.0
    return point, Z * point * math.sqrt(float((d / (y * (y - d))).sum()))


def _at_limit(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return np.full(n, math.inf)  # cut to the limit where it is drawn


def _uniform(top: float) -> Ends:
    return lambda rng, n: rng.uniform(0.0, top, size=n)


def _exponential(mean: float) -> Ends:
    return lambda rng, n: rng.exponential(mean, size=n)


def _waves(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.choice([0.2, 0.5, 0.9, 1.1, 3.0], size=n)


def _cliff(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return np.where(rng.random(n) < 0.9, 0.6, 3.0)


def _plain(point: float, low: float, high: float, n: int) -> Estimate:
    return Estimate(point, low, high, LEVEL, n, "plain", what="plain", approximate=True)
