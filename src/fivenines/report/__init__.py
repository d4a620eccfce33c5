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
    "fold_reduction",
    "render_html",
    "write_report",
]
