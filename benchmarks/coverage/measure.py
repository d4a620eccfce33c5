"""Runs the cases, one after another, and says what each gave."""

from __future__ import annotations

import hashlib
import importlib
import math
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage.case import Case

__all__ = ["PARTS", "Row", "all_cases", "measure", "measured"]

PARTS = (
    "rates",
    "sampling",
    "preferences",
    "attack_cost",
    "judges",
    "reliability",
    "proposals",
    "extremes",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one case gave."""

    method: str
    setting: str
    truth: float
    approximate: bool
    coverage: float
    least: float  # what it must reach
    too_low: float  # share of intervals that lie below the truth: dangerous for a failure rate
    too_high: float
    width: float
    plain: str
    plain_coverage: float
    relative_width: float
    rounds: int
    seconds: float

    @property
    def holds(self) -> bool:
        """At its level; and, where it is no approximation, each end at half of what is left, both less the noise."""
        tail = 0.025
        most = tail + 3 * math.sqrt(tail * (1 - tail) / self.rounds)
        ends = self.approximate or max(self.too_low, self.too_high) <= most
        return self.coverage >= self.least and ends


def all_cases(only: str = "") -> list[Case]:
    found = [
        case for part in PARTS for case in importlib.import_module(f"benchmarks.coverage.{part}").cases()
    ]
    return [case for case in found if only in f"{case.method}: {case.setting}"]


def measure(case: Case, rounds: int) -> Row:
    """The same numbers on every machine: the seed is the case's own name."""
    rounds = max(rounds // case.thrift, 1)
    seed = hashlib.sha256(f"{case.method}: {case.setting}".encode()).digest()
    rng = np.random.default_rng(list(seed[:16]))
    inside, below, above, plain_inside, widths, ratios = 0, 0, 0, 0, [], []
    begin = time.perf_counter()
    for _ in range(rounds):
        found, plain = case.draw(rng)
        inside += found.contains(case.truth)
        below += found.high < case.truth
        above += found.low > case.truth
        width = found.high - found.low
        widths.append(width)
        if plain is not None:
            plain_inside += plain.contains(case.truth)
            if plain.high > plain.low:
                ratios.append(width / (plain.high - plain.low))
    level = found.level
    return Row(
        case.method, case.setting, case.truth, found.approximate, inside / rounds,
        level - 3 * math.sqrt(level * (1 - level) / rounds), below / rounds, above / rounds, float(np.median(widths)),
        case.plain, plain_inside / rounds if case.plain else math.nan,
        float(np.median(ratios)) if ratios else math.nan, rounds, time.perf_counter() - begin,
    )  # fmt: skip


def measured(task: tuple[int, int, str]) -> Row:
    number, rounds, only = task
    return measure(all_cases(only)[number], rounds)
