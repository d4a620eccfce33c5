"""Hard cases for failure rates from counts, weights and strata, and for the reuse of unfiltered labels."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.case import Case, Drawn
from fivenines.stats import (
    Estimate,
    failure_rate_exact,
    failure_rate_reused,
    failure_rate_weighted,
    mean_bounded,
    ratio_bounded,
)
from fivenines.stats.poisson import failure_rate_poisson
from fivenines.stats.stratified import failure_rate_stratified

__all__ = ["cases", "kish", "normal", "wald", "wilson"]

_Z = 1.959963984540054  # of the normal distribution, 95% on two sides

# Strata whose weights lie over three orders of magnitude: share of the draws, weight, failure rate.
_DRAWN = np.array([0.4, 0.3, 0.2, 0.1])
_WEIGHT = np.array([0.01, 0.1, 1.0, 10.0])
_RATE = np.array([0.3, 0.03, 0.003, 0.001])
_MEAN = float(_DRAWN @ _WEIGHT)

# Strata by score, sampled alike although the first holds most of the mass.
_SHARES = np.array([0.9, 0.09, 0.01])
_RATES = np.array([2e-4, 5e-3, 0.2])

# Prompts that are easy, middling and hard to pass: share, acceptance, chance of a draw to fail and to pass.
_KINDS = np.array([0.7, 0.25, 0.05])
_ACCEPTANCE = np.array([0.95, 0.5, 0.05])
_LEAK = np.array([2e-4, 1e-3, 2e-3])
_BUDGET = 20


def cases() -> list[Case]:
    found = [
        Case(
            "failure_rate_exact", f"rate {rate:.0e}, n {n:,}", rate, partial(_exact, rate=rate, n=n), "Wilson"
        )
        for rate, n in ((1e-2, 300), (1e-3, 3000), (1e-4, 10_000), (1e-5, 300_000), (1e-5, 1000))
    ]
    for method in (_hajek, _mean_one, _gamma):
        for scale, n in ((1.0, 2000), (0.1, 2000), (0.01, 20_000), (0.001, 20_000)):
            truth = float(_DRAWN @ (_WEIGHT * _RATE)) * scale / _MEAN
            name = "failure_rate_poisson" if method is _gamma else "failure_rate_weighted"
            known = ", mean one" if method is _mean_one else ""
            setting = f"weights 0.01 to 10{known}, rate {truth:.1e}, n {n:,}"
            found.append(Case(name, setting, truth, partial(method, scale=scale, n=n), "Wilson, Kish's n"))
    for scale in (1.0, 0.1, 0.01):
        truth = float(_SHARES @ _RATES) * scale
        setting = f"3 strata of 300 labels, shares 0.9 to 0.01, rate {truth:.1e}"
        draw = partial(_stratified, rates=_RATES * scale)
        found.append(Case("failure_rate_stratified", setting, truth, draw, "Wilson, Kish's n"))
    for scale in (1.0, 0.1):
        truth = _leaked(scale)
        setting = f"budget {_BUDGET}, acceptance 0.95 to 0.05, rate {truth:.1e}, 5,000 prompts"
        found.append(Case("failure_rate_reused", setting, truth, partial(_reused, scale=scale), "Wald"))
    found += [
        Case("mean_bounded", "99.9% at 0, 0.1% at 1, n 500", 1e-3, _spike, "Wald"),
        Case("mean_bounded", "differences in [-1, 1], mean 0.02, n 200", 0.02, _differences, "Wald"),
        Case("ratio_bounded", "draws per output, heavy tail, 200 prompts", _draws_truth(), _draws, "Wald"),
    ]
    return found


def wald(values: NDArray[np.float64], what: str = "rate") -> Estimate:
    """The plain alternative: the mean, plus and minus 1.96 standard errors."""
    return normal(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size), what)


def normal(point: float, error: float, what: str = "rate") -> Estimate:
    """A normal-theory interval."""
    return Estimate(point, point - _Z * error, point + _Z * error, 0.95, 1, "Wald", (), what)


def wilson(rate: float, n: float) -> Estimate:
    """Wilson's score interval (JASA 1927), the usual advice for shares; ``n`` may be an effective number."""
    middle = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Estimate(rate, max(middle - half, 0.0), min(middle + half, 1.0), 0.95, round(n), "Wilson")


def kish(weights: NDArray[np.float64]) -> float:
    """The effective number of items of unequal weight."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _exact(rng: np.random.Generator, rate: float, n: int) -> Drawn:
    k = int(rng.binomial(n, rate))
    return failure_rate_exact(k, n), wilson(k / n, n)


def _sample(rng: np.random.Generator, scale: float, n: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    which = rng.choice(4, n, p=_DRAWN)
    return rng.random(n) < _RATE[which] * scale, _WEIGHT[which]


def _hajek(rng: np.random.Generator, scale: float, n: int) -> Drawn:
    failed, weights = _sample(rng, scale, n)
    rate = float((weights * failed).sum() / weights.sum())
    return failure_rate_weighted(failed, weights, 10.0), wilson(rate, kish(weights))


def _mean_one(rng: np.random.Generator, scale: float, n: int) -> Drawn:
    failed, weights = _sample(rng, scale, n)
    weights = weights / _MEAN
    plain = wilson(min(float((weights * failed).mean()), 1.0), kish(weights))
    return failure_rate_weighted(failed, weights, 10.0 / _MEAN, mean_one=True), plain


def _gamma(rng: np.random.Generator, scale: float, n: int) -> Drawn:
    failed, weights = _sample(rng, scale, n)
    rate = float((weights * failed).sum() / weights.sum())
    return failure_rate_poisson(failed, weights, 10.0), wilson(rate, kish(weights))


def _wald_ratio(x: NDArray[np.float64], d: NDArray[np.float64], ratio: float) -> Estimate:
    rest = (x - ratio * d) / d.mean()
    return normal(ratio, float(rest.std(ddof=1)) / math.sqrt(x.size))


def _stratified(rng: np.random.Generator, rates: NDArray[np.float64]) -> Drawn:
    n = np.full(3, 300)
    k = rng.binomial(n, rates)
    plain = wilson(float(_SHARES @ (k / n)), kish(np.repeat(_SHARES / n, n)))
    return failure_rate_stratified(k, n, _SHARES), plain


def _leaked(scale: float) -> float:
    """E[R F] / E[R], see docs/design/estimands.md."""
    returned = 1 - (1 - _ACCEPTANCE) ** _BUDGET
    return float(_KINDS @ (_LEAK * scale * returned / _ACCEPTANCE) / (_KINDS @ returned))


def _reused(rng: np.random.Generator, scale: float) -> Drawn:
    kind = rng.choice(3, 5000, p=_KINDS)
    failed = (rng.random(5000) < _LEAK[kind] * scale).astype(np.float64)
    first = rng.geometric(_ACCEPTANCE[kind])
    draws, returned = np.minimum(first, _BUDGET), first <= _BUDGET
    x = failed * draws
    rate = float(x.sum() / returned.sum())
    plain = _wald_ratio(x, returned.astype(np.float64), rate)
    return failure_rate_reused(failed, draws, returned, _BUDGET), plain


def _spike(rng: np.random.Generator) -> Drawn:
    values = (rng.random(500) < 1e-3).astype(np.float64)
    return mean_bounded(values, (0.0, 1.0)), wald(values)


def _differences(rng: np.random.Generator) -> Drawn:
    values = rng.choice([-1.0, 0.0, 1.0], 200, p=[0.04, 0.9, 0.06])
    return mean_bounded(values, (-1.0, 1.0)), wald(values)


def _draws_truth() -> float:
    returned = 1 - (1 - _ACCEPTANCE) ** _BUDGET
    return float(_KINDS @ (returned / _ACCEPTANCE) / (_KINDS @ returned))


def _draws(rng: np.random.Generator) -> Drawn:
    first = rng.geometric(_ACCEPTANCE[rng.choice(3, 200, p=_KINDS)])
    draws, back = np.minimum(first, _BUDGET).astype(np.float64), (first <= _BUDGET).astype(np.float64)
    ratio = float(draws.sum() / back.sum())
    return ratio_bounded(draws, back, float(_BUDGET)), _wald_ratio(draws, back, ratio)
