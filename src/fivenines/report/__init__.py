"""One HTML file with plots, and the same as JSON beside it."""

from __future__ import annotations

from fivenines.report.curves import Reliability, ReliabilityBin, ScoreCounts
from fivenines.report.fold import fold_reduction
from fivenines.report.records import (
    DrawCounts,
    History,
    LabelFacts,
    ModelFacts,
    Report,
    Sample,
    Samples,
    evaluation_from_dict,
)
from fivenines.report.render import render_html, write_report

__all__ = [
    "DrawCounts",
    "History",
    "LabelFacts",
    "ModelFacts",
    "Reliability",
    "ReliabilityBin",
    "Report",
    "Sample",
    "Samples",
    "ScoreCounts",
    "evaluation_from_dict",
    "fold_reduction",
    "render_html",
    "write_report",
]
