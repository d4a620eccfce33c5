"""Failure rate, quality and cost of a filtered generator, from stored scores and judgments alone."""

from __future__ import annotations

from fivenines.evaluate.curves import CurvePoint, curve, curve_thresholds
from fivenines.evaluate.evaluation import Counts, Evaluation, Known, Measured, evaluate
from fivenines.evaluate.tally import Code, Labelled, Tally
from fivenines.evaluate.transfer import Transfer
from fivenines.evaluate.understanding import (
    Continuations,
    Understanding,
    UnderstandingConfig,
    continuations,
    judged_by,
    understanding_of,
)

__all__ = [
    "Code",
    "Continuations",
    "Counts",
    "CurvePoint",
    "Evaluation",
    "Known",
    "Labelled",
    "Measured",
    "Tally",
    "Transfer",
    "Understanding",
    "UnderstandingConfig",
    "continuations",
    "curve",
    "curve_thresholds",
    "evaluate",
    "judged_by",
    "understanding_of",
]
