"""Hard cases for the forecast beyond the scores seen. Where the tail does not go on, no coverage is claimed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.coverage.case import Case, Drawn
from fivenines.errors import DataError
from fivenines.stats import Estimate, share_exact
from fivenines.stats.extremes import failure_forecast, largest_forecast

__all__ = ["cases"]

_PLAIN = "exact, scores above counted"


def cases() -> list[Case]:
    found = []
    for name, law, rate, n, straight in (
        ("exponential", stats.expon, 1e-5, 1000, True),
        ("Gumbel", stats.gumbel_r, 1e-6, 10_000, True),
        ("logistic", stats.logistic, 1e-4, 200, False),
        ("logistic", stats.logistic, 1e-6, 10_000, False),
        ("normal", stats.norm, 1e-6, 1000, False),
        ("normal", stats.norm, 1e-5, 10_000, False),
        ("t with 3 degrees", stats.t(3), 1e-4, 1000, False),
        ("t with 10 degrees", stats.t(10), 1e-6, 10_000, False),
    ):
        form = "straight" if straight else "bent"
        draw = partial(_forecast, law=law, limit=float(law.isf(rate)), n=n, straight=straight)
        found.append(
            Case("failure_forecast", f"{name} scores, {form}, share {rate:.0e}, n {n:,}", rate, draw, _PLAIN)
        )
    for name, law, n, draws, straight in (
        ("exponential", stats.expon, 1000, 100_000, True),
        ("logistic", stats.logistic, 10_000, 1_000_000, False),
        ("normal", stats.norm, 1000, 100_000, False),
        ("t with 3 degrees", stats.t(3), 1000, 100_000, False),
    ):
        form = "straight" if straight else "bent"
        setting = f"{name} scores, {form}, the largest of {draws:,} more, n {n:,}; less what came"
        draw = partial(_largest, law=law, n=n, draws=draws, straight=straight)
        found.append(Case("largest_forecast", setting, 0.0, draw))
    return found


def _largest(rng: np.random.Generator, law: Any, n: int, draws: int, straight: bool) -> Drawn:
    """A prediction interval: what it must contain is drawn too, and taken from it."""
    scores = law.rvs(size=n, random_state=rng)
    came = float(law.isf(-math.expm1(math.log(rng.random()) / draws)))
    try:
        found = largest_forecast(scores, draws, straight=straight)
    except DataError:  # as below
        found = largest_forecast(scores, draws, straight=not straight)
    return replace(found, point=found.point - came, low=found.low - came, high=found.high - came), None


def _forecast(rng: np.random.Generator, law: Any, limit: float, n: int, straight: bool) -> Drawn:
    scores = law.rvs(size=n, random_state=rng)
    return _tolerant(scores, limit, straight), share_exact(int((scores > limit).sum()), n)


def _tolerant(scores: Any, limit: float, straight: bool) -> Estimate:
    """What is refused (bent up, or ending before the limit) is forecast the other way, as the message says."""
    try:
        return failure_forecast(scores, limit, straight=straight, held_back=False)
    except DataError:
        return failure_forecast(scores, limit, straight=not straight, held_back=False)
