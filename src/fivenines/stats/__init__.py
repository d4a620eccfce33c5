"""Arrays in, Estimate out."""

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

__all__ = [
    "Estimate",
    "binomial_p_value",
    "clopper_pearson",
    "failure_rate_exact",
    "sample_size_exact",
    "share_exact",
    "zero_failure_sample_size",
]
