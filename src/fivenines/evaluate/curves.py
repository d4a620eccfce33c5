"""The trade-off: what each threshold would give, from the scores and judgments at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fivenines.evaluate.rates import reused_rate
from fivenines.evaluate.tally import Tally
from fivenines.stats import (
    Estimate,
    failure_rate_exact,
    preference_exact,
    ratio_bounded,
    share_exact,
)
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.quality import quality_box

__all__ = ["CurvePoint", "curve", "curve_thresholds"]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one threshold would give.

    ``acceptance`` of a draw; ``miss_rate``, the share of failing first draws that pass; ``failure_rate`` of
    the system by reuse; ``draws_per_output``, None where the run stopped earlier than this threshold would;
    and ``quality``, exact where the stored comparisons apply and bounded where they do not. None under a
    policy for which the quantity cannot be had from this run.
    """

    threshold: float
    acceptance: Estimate
    miss_rate: Estimate
    failure_rate: Estimate | None
    draws_per_output: Estimate | None
    quality: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {
            name: Estimate.from_dict(value) if isinstance(value, Mapping) else value
            for name, value in data.items()
        }
        return cls(**values)


def curve_thresholds(tally: Tally, deployed: float | None, points: int = 25) -> list[float]:
    """Thresholds at even steps of acceptance, from 2% to 100% of the first draws, and the deployed one."""
    scores = tally.first_score[np.isfinite(tally.first_score)]
    if not scores.size:
        return [] if deployed is None else [deployed]
    at = np.quantile(scores, np.linspace(0.02, 1.0, points), method="higher")
    chosen = set(np.minimum(np.nextafter(at, np.inf), 1.0).tolist())
    return sorted(chosen | (set() if deployed is None else {deployed}))


def curve(tally: Tally, thresholds: list[float], level: float) -> tuple[CurvePoint, ...]:
    """One point for each threshold, in linear time each."""
    return tuple(_point(tally, threshold, level) for threshold in thresholds)


def _point(tally: Tally, threshold: float, level: float) -> CurvePoint:
    passed = tally.first_score < threshold
    known, failed = tally.fails(tally.first_code)
    failures = known & failed
    whole = tally.policy == "first" and tally.traced
    reached = tally.first_below(threshold) if whole else np.zeros(len(tally), np.int64)
    return CurvePoint(
        threshold=threshold,
        acceptance=share_exact(int(passed.sum()), len(tally), level, what="acceptance of a draw"),
        miss_rate=failure_rate_exact(
            int((failures & passed).sum()), int(failures.sum()), level, what="miss rate"
        ),
        failure_rate=reused_rate(tally, level, threshold),
        draws_per_output=_draws(tally, reached, level) if whole else None,
        quality=_quality(tally, reached, ~passed, level) if whole else None,
    )


def _draws(tally: Tally, reached: NDArray[np.int64], level: float) -> Estimate | None:
    found = reached > 0
    if np.any(~found & (tally.draws < tally.budget)):
        return None  # these runs stopped at a looser threshold
    draws = np.where(found, reached, tally.budget)
    return ratio_bounded(
        draws, found.astype(np.float64), float(tally.budget), level=level, what="draws per output"
    )


def _quality(tally: Tally, reached: NDArray[np.int64], rejected: NDArray[np.bool_], level: float) -> Estimate:
    """Fact 3 at another threshold: the comparisons hold where it would return the same output.

    Prompts whose first draw is rejected fall in two parts: "same", where the output at this threshold is the
    one that was compared, and "open", where it is another and any preference is possible.
    """
    may_return = (reached > 0) | (tally.draws < tally.budget)
    same = rejected & (reached == tally.draws) & tally.returned
    unlike = rejected & may_return & ~same
    n, tail = int(may_return.sum()), (1.0 - level) / 6  # three bounds, two sides
    what, method = "quality", "coupled, exact"
    if not n:
        return Estimate(math.nan, 0.0, 1.0, level, 0, method, ("no prompt gets an output",), what)
    judged = tally.preference[same]
    judged = judged[~np.isnan(judged)]
    preferred = preference_exact(judged, 1.0 - (1.0 - level) / 3)
    parts = [(*clopper_pearson(int(same.sum()), n, tail), preferred.low, preferred.high)]
    if unlike.any():
        parts.append((*clopper_pearson(int(unlike.sum()), n, tail), 0.0, 1.0))
    low, high = quality_box(parts)
    share = float(same.sum()) / n
    point = math.nan
    if not unlike.any() and (judged.size or not same.any()):
        point = 0.5 if not same.any() else 0.5 + share * (preferred.point - 0.5)
    bound = (
        (f"{int(unlike.sum()):,} pairs were never compared: any preference is allowed",)
        if unlike.any()
        else ()
    )
    rest = ("judged pairs are a random sample of those that differ", "raters are blind to the order")
    return Estimate(point, low, high, level, n, method, (*bound, *rest), what)
