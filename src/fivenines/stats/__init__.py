"""Arrays in, Estimate out. numpy and scipy only.

Names follow one grid: the quantity, then how: ``failure_rate_exact``, ``failure_rate_weighted``,
``failure_rate_reused``, ``preference_coupled``. Every estimate carries what it rests on.
"""

from __future__ import annotations

from fivenines.stats.binomial import (
    binomial_p_value,
    clopper_pearson,
    failure_rate_exact,
    sample_size_exact,
    share_exact,
    zero_failure_sample_size,
)
from fivenines.stats.estimate import Estimate
from fivenines.stats.quality import preference_coupled, preference_exact, quality_box
from fivenines.stats.ranking import auroc, average_precision
from fivenines.stats.weighted import (
    failure_rate_reused,
    failure_rate_weighted,
    mean_bounded,
    ratio_bounded,
    ratio_weighted,
)

__all__ = [
    "Estimate",
    "auroc",
    "average_precision",
    "binomial_p_value",
    "clopper_pearson",
    "failure_rate_exact",
    "failure_rate_reused",
    "failure_rate_weighted",
    "mean_bounded",
    "preference_coupled",
    "preference_exact",
    "quality_box",
    "ratio_bounded",
    "ratio_weighted",
    "sample_size_exact",
    "share_exact",
    "zero_failure_sample_size",
]
