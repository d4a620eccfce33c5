"""The filtered generator: nothing leaves that the classifier did not pass."""

from fivenines.filtering.generator import (
    FilteredGenerator,
    FilterStats,
    Policy,
    Rater,
    ThresholdLike,
    Tighten,
)
from fivenines.filtering.scoring import PatientScorer, safe_scores

__all__ = [
    "FilterStats",
    "FilteredGenerator",
    "PatientScorer",
    "Policy",
    "Rater",
    "ThresholdLike",
    "Tighten",
    "safe_scores",
]
