"""Failure rate, quality and cost of a filtered generator, from stored scores and judgments alone."""

from __future__ import annotations

from fivenines.evaluate.curves import CurvePoint, curve, curve_thresholds
from fivenines.evaluate.evaluation import Counts, Evaluation, Known, Measured, evaluate
from fivenines.evaluate.tally import Code, Labelled, Tally

__all__ = [
    "Code",
    "Counts",
    "CurvePoint",
    "Evaluation",
    "Known",
    "Labelled",
    "Measured",
    "Tally",
    "curve",
    "curve_thresholds",
    "evaluate",
]
