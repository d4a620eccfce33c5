"""How many times fewer failures: the ratio of two failure rates, with an interval at any sample size."""

from __future__ import annotations

import math

from fivenines.stats import Estimate, failure_rate_exact

__all__ = ["fold_reduction"]


def fold_reduction(unfiltered: Estimate, filtered: Estimate) -> Estimate | None:
    """The unfiltered failure rate over the filtered one; None where either was not measured.

    Interval: the extremes of the ratio over both intervals, each at half the error budget, so that it holds
    at the level of the two by Bonferroni, whatever their dependence (the two systems share first draws).
    Counts are recovered from exact binomial rates; other rates keep their own intervals, and the level says
    so. With no failure seen through the filter there is only a lower bound: the point is NaN and the upper
    end infinite.
    """
    if not unfiltered.n or not filtered.n or math.isnan(unfiltered.point):
        return None
    level = min(unfiltered.level, filtered.level)
    half = 1.0 - (1.0 - level) / 2
    exact = all(rate.method == "exact binomial" for rate in (unfiltered, filtered))
    above, below = unfiltered, filtered
    if exact:
        above, below = (
            failure_rate_exact(round(rate.point * rate.n), rate.n, half) for rate in (unfiltered, filtered)
        )
    return Estimate(
        point=unfiltered.point / filtered.point if filtered.point > 0 else math.nan,
        low=above.low / below.high if below.high > 0 else 0.0,
        high=above.high / below.low if below.low > 0 else math.inf,
        level=level if exact else max(0.01, 1.0 - (1.0 - unfiltered.level) - (1.0 - filtered.level)),
        n=min(unfiltered.n, filtered.n),
        method="ratio of two intervals, exact" if exact else "ratio of two intervals",
        assumptions=tuple(dict.fromkeys((*unfiltered.assumptions, *filtered.assumptions))),
        what="fold reduction",
    )
