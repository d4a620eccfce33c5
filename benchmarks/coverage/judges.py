"""Hard cases for the failure rate corrected for the judge's errors."""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import special

from benchmarks.coverage.case import Case, Drawn
from fivenines.stats import Estimate
from fivenines.stats.judges import failure_rate_corrected

__all__ = ["cases"]

Design = tuple[int, int, int]  # items judged, failures checked, texts without a failure checked


def cases() -> list[Case]:
    """Rates 1e-2 to 1e-5, judges from careless to nearly perfect, small and large checks of them."""
    return [
        _case(1e-2, 0.9, 0.999, (2_000, 50, 1_000)),
        _case(1e-2, 0.7, 0.98, (2_000, 20, 200)),
        _case(1e-3, 0.9, 1.0, (3_000, 30, 300)),
        _case(1e-3, 0.9, 0.999, (10_000, 100, 1_000)),
        _case(1e-3, 0.95, 0.99, (10_000, 100, 10_000)),
        _case(1e-4, 0.9, 0.9999, (30_000, 50, 3_000)),
        _case(1e-4, 0.8, 1.0, (30_000, 20, 30_000)),
        _case(1e-5, 0.9, 0.9999, (100_000, 100, 10_000)),
        _case(1e-5, 0.6, 1.0, (100_000, 200, 100_000)),
        _case(0.0, 0.9, 0.999, (10_000, 50, 2_000)),
        _case(0.3, 0.85, 0.9, (500, 60, 60)),
    ]


def lang_reiczigel(counts: tuple[int, int, int, int, int, int], level: float = 0.95) -> Estimate:
    """The adjusted normal interval of Lang and Reiczigel (Preventive Veterinary Medicine 2014), as in R's
    asht::prevSeSp."""
    flagged, n, caught, failures, cleared, oks = counts
    z = float(special.ndtri((1 + level) / 2))
    many, some, rest = n + z**2, failures + 2, oks + 2
    q, sens, spec = (flagged + z**2 / 2) / many, (caught + 1) / some, (cleared + 1) / rest
    rate = (q + spec - 1) / (sens + spec - 1)
    of_sens, of_spec = rate * sens * (1 - sens) / some, (1 - rate) * spec * (1 - spec) / rest
    deviation = math.sqrt(q * (1 - q) / many + rate * of_sens + (1 - rate) * of_spec) / abs(sens + spec - 1)
    middle = rate + 2 * z**2 * (of_sens - of_spec)
    low, high = (min(1.0, max(0.0, middle + side * z * deviation)) for side in (-1, 1))
    point = min(1.0, max(0.0, rate))
    return Estimate(point, low, high, level, n, "Lang and Reiczigel", approximate=True)


@functools.lru_cache(maxsize=1 << 16)  # rare counts repeat
def _both(counts: tuple[int, int, int, int, int, int]) -> Drawn:
    return failure_rate_corrected(*counts), lang_reiczigel(counts)


def _case(rate: float, sens: float, spec: float, design: Design) -> Case:
    n, failures, oks = design

    def draw(rng: np.random.Generator) -> Drawn:
        flagged = rng.binomial(n, rate * sens + (1 - rate) * (1 - spec))
        caught, cleared = rng.binomial(failures, sens), rng.binomial(oks, spec)
        return _both((int(flagged), n, int(caught), failures, int(cleared), oks))

    setting = f"rate {rate:g}, n {n:,}, sensitivity {sens:g} of {failures:,}, specificity {spec:g} of {oks:,}"
    return Case("failure_rate_corrected", setting, rate, draw, "Lang-Reiczigel, approximate")
