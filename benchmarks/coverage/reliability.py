"""Hard cases for reliability curves and calibration error."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.coverage.case import Case, Drawn
from fivenines.stats import Estimate
from fivenines.stats.reliability import calibration_curve, calibration_error, failure_rate_unlike

__all__ = ["cases"]

Floats = NDArray[np.float64]
_SEED, _BOUND = 20, 30.0


def cases() -> list[Case]:
    """Scores that are right, too low or too high; rare failures; few items; weights over three orders."""
    return [
        _error("calibrated", 1.0, 300),
        _error("calibrated", 0.01, 5_000),
        _error("calibrated", 0.001, 8_000),
        _error("too low", 1.0, 50),
        _error("too low", 0.02, 3_000),
        _error("too high", 0.1, 1_000),
        _error("calibrated", 1.0, 300, power=2),
        _error("too low", 0.02, 3_000, power=2),
        _error("too low", 0.2, 500, weighted=True),
        _curve(0.02, 2_000, together=False),
        _curve(0.02, 2_000, together=True),
        _curve(0.2, 400, together=False, weighted=True),
        *(_unlike(mean, n) for mean, n in ((1e-2, 500), (1e-3, 3_000), (1e-4, 20_000), (1e-5, 30_000))),
    ]


def _population(kind: str, top: float, n: int) -> tuple[Floats, Floats, Floats]:
    """Scores, true failure probabilities, and weights: the same in every round, as the labels vary."""
    rng = np.random.default_rng(_SEED)
    scores = np.sort(top * rng.random(n) ** 2)
    chance = {"calibrated": scores, "too low": np.sqrt(scores * top), "too high": scores / 3}[kind]
    return scores, chance, np.exp(rng.uniform(-math.log(_BOUND), math.log(_BOUND), n))


def _error(kind: str, top: float, n: int, *, power: int = 1, weighted: bool = False) -> Case:
    scores, chance, weights = _population(kind, top, n)
    edges = np.linspace(0.0, top, 6)
    where = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, 4)
    w = weights if weighted else np.ones(n)
    gaps = np.bincount(where, w * (chance - scores), 5) / np.bincount(where, w, 5)
    truth = float((np.bincount(where, w, 5) / w.sum()) @ np.abs(gaps) ** power)

    def draw(rng: np.random.Generator) -> Drawn:
        failed = rng.random(n) < chance
        found = calibration_error(
            failed,
            scores,
            weights if weighted else None,
            edges,
            weight_bound=_BOUND if weighted else None,
            power=2 if power == 2 else 1,
        )
        return found, _bootstrap(rng, where, failed, scores, w, power)

    setting = f"{kind}, scores up to {top:g}, n {n:,}" + (", squared" if power == 2 else "")
    setting += ", weights over three orders" if weighted else ""
    return Case("calibration_error", setting, truth, draw, "bootstrap of the plain estimate")


def _bootstrap(
    rng: np.random.Generator,
    where: NDArray[np.int64],
    failed: NDArray[np.bool_],
    scores: Floats,
    weights: Floats,
    power: int,
) -> Estimate:
    """Percentiles of 60 resamples: what one does with a plain estimate that is biased upwards."""
    n = scores.size
    gaps = weights * (failed - scores)
    values = []
    for picked in (np.arange(n), *rng.integers(0, n, (60, n))):
        mass = np.bincount(where[picked], weights[picked], 5)
        gap = np.abs(np.bincount(where[picked], gaps[picked], 5) / np.maximum(mass, 1e-300))
        values.append(float((mass / mass.sum()) @ gap**power))
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(values[0], float(low), float(high), 0.95, n, "bootstrap", approximate=True)


def _curve(top: float, n: int, *, together: bool, weighted: bool = False) -> Case:
    """The bin of the lowest scores; or, together, whether every bin is right at once."""
    scores, chance, weights = _population("too low", top, n)
    w = weights if weighted else np.ones(n)

    def draw(rng: np.random.Generator) -> Drawn:
        failed = rng.random(n) < chance
        found = calibration_curve(
            failed,
            scores,
            weights if weighted else None,
            5,
            weight_bound=_BOUND if weighted else None,
            simultaneous=together,
        )
        if not together:
            return _centred(found[0].failure_rate, truths[0]), _centred(_wald(failed, w, starts), truths[0])
        rates = [each.failure_rate for each in found]
        right = all(rate.contains(truth) for rate, truth in zip(rates, truths, strict=True))
        worst = max(rates, key=lambda rate: rate.high - rate.low)
        width = worst.high - worst.low
        return Estimate(0.0, 0.0 if right else 1.0, max(width, 1.0 - right), 0.95, n, "all bins"), None

    edges = [each.low for each in calibration_curve(chance > 2, scores, w, 5, weight_bound=w.max())]
    starts = np.append(np.searchsorted(scores, edges), n)
    truths = [float(np.average(chance[a:b], weights=w[a:b])) for a, b in itertools.pairwise(starts)]
    setting = f"scores up to {top:g}, n {n:,}, " + ("all bins at once" if together else "lowest bin")
    setting += ", weights over three orders" if weighted else ""
    return Case("calibration_curve", setting, 0.0, draw, "" if together else "Wald")


def _centred(rate: Estimate, truth: float) -> Estimate:
    """The error of an estimate, whose true value is 0."""
    return Estimate(
        rate.point - truth, rate.low - truth, rate.high - truth, rate.level, rate.n, rate.method, what="error"
    )


def _wald(failed: NDArray[np.bool_], weights: Floats, starts: NDArray[np.int64]) -> Estimate:
    f, w = failed[: starts[1]], weights[: starts[1]]
    rate = float(np.average(f, weights=w))
    deviation = float(np.sqrt((w**2 * (f - rate) ** 2).sum()) / w.sum())
    z = float(special.ndtri(0.975))
    return Estimate(rate, rate - z * deviation, rate + z * deviation, 0.95, f.size, "Wald", approximate=True)


def _unlike(mean: float, n: int) -> Case:
    """Failure probabilities over several orders with this mean."""
    spread = np.exp(np.random.default_rng(_SEED).normal(0.0, 2.0, n))
    chance = np.minimum(mean * spread / spread.mean(), 1.0)
    return Case(
        "failure_rate_unlike",
        f"mean {mean:g}, n {n:,}, probabilities over several orders",
        float(chance.mean()),
        partial(_draw_unlike, chance=chance),
        "Wald",
    )


def _draw_unlike(rng: np.random.Generator, chance: Floats) -> Drawn:
    failed = rng.random(chance.size) < chance
    found = failure_rate_unlike(int(failed.sum()), failed.size)
    return found, _wald(failed, np.ones(failed.size), np.array([0, failed.size]))
