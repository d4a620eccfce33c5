"""Hard cases for quality: few pairs, many ties, raters who differ, pairs sampled unequally, policies that agree."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.case import Case, Drawn
from benchmarks.coverage.rates import normal, wald
from fivenines.stats import Estimate, preference_coupled, preference_exact
from fivenines.stats.preferences import (
    preference_clustered,
    preference_coupled_by,
    preference_difference,
    preference_stratified,
    preference_weighted,
)

__all__ = ["cases"]

_SCALE = np.array([1.0, 0.5, 0.0])

# Raters of two minds; the lenient judge more pairs than the strict, so that the two means over raters differ.
_LENIENT, _STRICT = 0.75, 0.25
_MANY, _FEW = 40, 20
_BY_PAIRS = (_MANY * _LENIENT + _FEW * _STRICT) / (_MANY + _FEW)
_BY_RATERS = (_LENIENT + _STRICT) / 2

# Pairs whose weights lie over three orders of magnitude: share of the draws, weight, preference.
_DRAWN = np.array([0.4, 0.3, 0.2, 0.1])
_WEIGHT = np.array([0.01, 0.1, 1.0, 10.0])
_LIKED = np.array([0.9, 0.7, 0.55, 0.4])
_WEIGHTED = float(_DRAWN @ (_WEIGHT * _LIKED) / (_DRAWN @ _WEIGHT))

_SHARES = np.array([0.9, 0.09, 0.01])
_STRATA = np.array([0.5, 0.3, 0.05])


def cases() -> list[Case]:
    found = []
    for win, tie, n in ((0.3, 0.4, 20), (0.01, 0.98, 200), (0.99, 0.005, 100), (0.5, 0.0, 1000)):
        setting = f"{win:g} won, {tie:g} tied, {n:,} pairs"
        draw = partial(_exact, win=win, tie=tie, n=n)
        found.append(Case("preference_exact", setting, win + tie / 2, draw, "Wald"))
    for rejected, prompts, most in ((0.1, 2000, 100), (0.01, 300, 10), (0.001, 1000, 5), (0.5, 40, 15)):
        setting = f"{rejected:g} of {prompts:,} first draws rejected, at most {most} judged"
        draw = partial(_coupled, rejected=rejected, prompts=prompts, most=most)
        found.append(
            Case("preference_coupled", setting, 0.5 - 0.1 * rejected, draw, "as many pairs, uncoupled")
        )
    for raters in (3, 10, 50):
        setting, plain = f"{raters} raters of two minds, 20 or 40 pairs each", "raters ignored"
        pairs, means = (partial(_clustered, raters=raters, cap=cap) for cap in (_MANY, None))
        found.append(Case("preference_clustered", f"{setting}, by pairs", _BY_PAIRS, pairs, plain))
        found.append(Case("preference_clustered", f"{setting}, by raters", _BY_RATERS, means, plain))
    truth = 0.5 + 0.1 * (_BY_PAIRS - 0.5)
    setting = "a tenth rejected of 2,000 prompts, 10 raters of two minds"
    found.append(Case("preference_coupled_by", setting, truth, _coupled_clustered, "raters ignored"))
    for n in (30, 300, 2000):
        setting = f"weights 0.01 to 10, {n:,} pairs"
        found.append(Case("preference_weighted", setting, _WEIGHTED, partial(_weighted, n=n), "Wald"))
    for sizes in ((2, 2, 2), (100, 100, 100), (200, 20, 5)):
        setting = f"3 strata of shares 0.9 to 0.01, {sizes[0]}, {sizes[1]} and {sizes[2]} pairs"
        draw, truth = partial(_stratified, sizes=sizes), float(_SHARES @ _STRATA)
        found.append(Case("preference_stratified", setting, truth, draw, "Wald, stratum by stratum"))
    for differ, n, judged in ((0.3, 400, 0.5), (0.01, 1000, 1.0), (0.001, 1000, 1.0), (0.6, 25, 1.0)):
        setting = f"texts differ at {differ:g} of {n:,} prompts, {judged:g} of these judged"
        draw = partial(_net, differ=differ, n=n, judged=judged)
        plain = "as many judged, same or not"
        found.append(Case("preference_difference", f"{setting}, one judgement", 0.1 * differ, draw, plain))
        draw = partial(_two, differ=differ, n=n, judged=judged)
        found.append(Case("preference_difference", f"{setting}, two judgements", 0.15 * differ, draw, "Wald"))
    return found


def _judge(rng: np.random.Generator, n: int, win: float, tie: float) -> NDArray[np.float64]:
    return rng.choice(_SCALE, n, p=[win, tie, 1 - win - tie])


def _exact(rng: np.random.Generator, win: float, tie: float, n: int) -> Drawn:
    values = _judge(rng, n, win, tie)
    return preference_exact(values), wald(values)


def _coupled(rng: np.random.Generator, rejected: float, prompts: int, most: int) -> Drawn:
    k = int(rng.binomial(prompts, rejected))
    values = _judge(rng, min(k, most), 0.3, 0.2)
    uncoupled = _judge(rng, values.size, 0.4 - 0.1 * rejected, 0.2)
    return preference_coupled(k, values, n=prompts), preference_exact(uncoupled)


def _rated(rng: np.random.Generator, raters: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    lenient = rng.random(raters) < 0.5
    owner = np.repeat(np.arange(raters), np.where(lenient, _MANY, _FEW))
    return (rng.random(owner.size) < np.where(lenient, _LENIENT, _STRICT)[owner]).astype(np.float64), owner


def _clustered(rng: np.random.Generator, raters: int, cap: int | None) -> Drawn:
    values, owner = _rated(rng, raters)
    return preference_clustered(values, owner, cap), preference_exact(values)


def _coupled_clustered(rng: np.random.Generator) -> Drawn:
    values, owner = _rated(rng, 10)
    k = int(rng.binomial(2000, 0.1))

    def preferred(level: float) -> Estimate:
        return preference_clustered(values, owner, _MANY, level)

    return preference_coupled_by(k, preferred, n=2000), preference_coupled(k, values[:k], n=2000)


def _weighted(rng: np.random.Generator, n: int) -> Drawn:
    which = rng.choice(4, n, p=_DRAWN)
    values, weights = (rng.random(n) < _LIKED[which]).astype(np.float64), _WEIGHT[which]
    mean = float(np.average(values, weights=weights))
    rest = weights * (values - mean) / weights.mean()
    return preference_weighted(values, weights, 10.0), normal(mean, float(rest.std(ddof=1)) / math.sqrt(n))


def _stratified(rng: np.random.Generator, sizes: tuple[int, ...]) -> Drawn:
    n, strata = np.array(sizes), np.repeat(np.arange(3), sizes)
    values = (rng.random(strata.size) < _STRATA[strata]).astype(np.float64)
    seen = np.bincount(strata, weights=values) / n
    plain = normal(float(_SHARES @ seen), math.sqrt(float(_SHARES**2 @ (seen * (1 - seen) / n))))
    return preference_stratified(values, strata, _SHARES), plain


def _net(rng: np.random.Generator, differ: float, n: int, judged: float) -> Drawn:
    same = rng.random(n) >= differ
    asked = ~same & (rng.random(n) < judged)
    found = preference_difference(same, np.where(asked, _judge(rng, n, 0.4, 0.3), np.nan))
    m = int(asked.sum())
    values = np.where(rng.random(m) < differ, _judge(rng, m, 0.4, 0.3), 0.5)
    half = preference_exact(values)
    return found, Estimate(
        2 * half.point - 1, 2 * half.low - 1, 2 * half.high - 1, 0.95, m, half.method, (), found.what
    )


def _two(rng: np.random.Generator, differ: float, n: int, judged: float) -> Drawn:
    same, asked = rng.random(n) >= differ, rng.random(n) < judged
    first, second = (np.where(asked, _judge(rng, n, win, 0.4), np.nan) for win in (0.35, 0.2))
    difference = np.where(same, 0.0, first - second)[asked]
    return preference_difference(same, first, second), wald(difference)
