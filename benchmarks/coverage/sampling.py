"""Hard cases for rates of a pool that was labelled by a design, and for ranking."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from benchmarks.coverage.case import Case, Drawn
from benchmarks.coverage.rates import kish, normal, wald, wilson
from fivenines.errors import NotEnoughDataError
from fivenines.stats import Estimate, auroc, average_precision
from fivenines.stats.assisted import (
    failure_rate_assisted,
    failure_rate_hajek,
    failure_rate_horvitz_thompson,
    pseudo_outcomes,
)
from fivenines.stats.designs import design_active, design_near_threshold
from fivenines.stats.prediction_powered import MIN_FAILURES, failure_rate_powered

__all__ = ["cases"]

_POOL, _LABELS = 2000, 200


def cases() -> list[Case]:
    found = []
    for tail, rate in ((6.0, 0.05 / 6.05), (50.0, 0.05 / 50.05), (500.0, 0.05 / 500.05)):
        for told in ("calibrated", "blind"):
            for method in ("horvitz_thompson", "hajek", "assisted"):
                setting = f"active design, {told} predictions, rate {rate:.0e}, {_LABELS} of {_POOL:,}"
                draw = partial(_designed, tail=tail, told=told, method=method)
                plain = "Wald" if method == "assisted" else "Wilson, Kish's n"
                found.append(Case(f"failure_rate_{method}", setting, rate, draw, plain))
    found.append(
        Case("failure_rate_assisted", "near the threshold, overconfident, rate 1e-03, 200 of 2,000",
             0.05 / 50.05, _overconfident, "Wald")
    )  # fmt: skip
    found.append(
        Case(
            "failure_rate_powered", "10 failures or more, rate 0.02, 1,000 labels", 0.02, _powered, "Wald", 5
        )
    )
    for n, base, thrift in ((400, 0.05, 2), (5000, 0.01, 10)):
        area = float(stats.norm.cdf(2.0 / math.sqrt(2.0)))
        setting = f"failures {base:.0%}, n {n:,}, two normals 2 apart"
        found.append(
            Case(
                "auroc",
                setting,
                area,
                partial(_ranked, n=n, base=base, which="auroc"),
                "Hanley and McNeil",
                thrift,
            )
        )
        precision = _average_precision(base)
        draw = partial(_ranked, n=n, base=base, which="average_precision")
        found.append(Case("average_precision", setting, precision, draw, "", thrift))
    return found


def _designed(rng: np.random.Generator, tail: float, told: str, method: str) -> Drawn:
    chance = rng.beta(0.05, tail, _POOL)
    failed = rng.random(_POOL) < chance
    predictions = chance if told == "calibrated" else rng.permutation(chance)
    design = design_active(predictions, _LABELS)
    at = design.draw(rng)
    pi, f = design.inclusion[at], failed[at]
    z = np.zeros(_POOL)
    z[at] = f / pi
    if method == "horvitz_thompson":
        plain = wilson(min(float(z.mean()), 1.0), kish(1 / pi))
        return failure_rate_horvitz_thompson(f, pi, _POOL, design.floor), plain
    if method == "hajek":
        rate = float((f / pi).sum() / (1 / pi).sum())
        return failure_rate_hajek(f, pi, design.floor), wilson(rate, kish(1 / pi))
    plain = wald(pseudo_outcomes(design, predictions, at, f))
    return failure_rate_assisted(design, predictions, at, f), plain


def _overconfident(rng: np.random.Generator) -> Drawn:
    chance = rng.beta(0.05, 50.0, _POOL)
    failed = rng.random(_POOL) < chance
    predictions = np.where(chance > 0.02, 0.99, 1e-6)
    design = design_near_threshold(np.clip(chance, 1e-9, 1 - 1e-9), 0.05, _LABELS)
    at = design.draw(rng)
    plain = wald(pseudo_outcomes(design, predictions, at, failed[at]))
    return failure_rate_assisted(design, predictions, at, failed[at]), plain


def _powered(rng: np.random.Generator) -> Drawn:
    while True:  # what would be refused is drawn again: the level is that of what is shown
        chance = rng.beta(0.1, 4.9, 6000)
        failed = (rng.random(1000) < chance[:1000]).astype(np.float64)
        try:
            return failure_rate_powered(failed, chance[:1000], chance[1000:]), wald(failed)
        except NotEnoughDataError:
            assert failed.sum() < MIN_FAILURES


def _ranked(rng: np.random.Generator, n: int, base: float, which: str) -> Drawn:
    while True:
        failed = rng.random(n) < base
        if 2 <= failed.sum() <= n - 2:
            break
    scores = rng.normal(size=n) + 2.0 * failed
    if which == "average_precision":
        return average_precision(failed, scores), None
    found = auroc(failed, scores)
    return found, _hanley_mcneil(found.point, failed)


def _hanley_mcneil(area: float, failed: NDArray[np.bool_]) -> Estimate:
    """The usual formula for the standard error (Radiology 1982)."""
    bad, good = int(failed.sum()), int((~failed).sum())
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (bad - 1) * (one - area**2) + (good - 1) * (two - area**2)) / (bad * good)
    return normal(area, math.sqrt(variance))


def _average_precision(base: float) -> float:
    """Of the population: the mean over failures of the precision at their score."""

    def at(score: float) -> float:
        found = base * float(stats.norm.sf(score - 2.0))
        return float(stats.norm.pdf(score - 2.0)) * found / (found + (1 - base) * float(stats.norm.sf(score)))

    return float(integrate.quad(at, -8.0, 12.0, limit=200)[0])
