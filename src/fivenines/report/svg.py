"""matplotlib figures as inline SVG that takes its colours and its font from the page.

A figure is drawn with stand-in colours, one for each role; in the SVG they become CSS variables, so that one
drawing serves light and dark. Text stays text: it can be selected, searched and read aloud.
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = [
    "FILTERED",
    "GRID",
    "INK",
    "MUTED",
    "SURFACE",
    "TRUTH",
    "UNFILTERED",
    "new_panel",
    "styled",
    "to_svg",
]

INK, MUTED, GRID, SURFACE = "#010203", "#010204", "#010205", "#010206"
UNFILTERED, FILTERED, TRUTH = "#010207", "#010208", "#010209"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    UNFILTERED: "--unfiltered",
    FILTERED: "--filtered",
    TRUTH: "--truth",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fivenines",  # the same numbers give the same file
    "font.size": 11.0,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "xtick.major.size": 4.0,
    "xtick.minor.size": 0.0,
    "ytick.major.size": 0.0,
    "ytick.minor.size": 0.0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
}
_PANEL = (330.0, 240.0)  # units of the SVG: about one to a pixel on a phone, so that 11 stays 11


# A decorator of every function that draws: rcParams hold inside, and no global state is left changed.
styled = matplotlib.rc_context(_STYLE)


def new_panel(height: float = _PANEL[1], width: float = _PANEL[0]) -> tuple[Figure, Axes]:
    """An empty panel as wide as a phone, faint horizontal lines, no frame. Call it under ``styled``."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    return figure, axes


def to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element for an HTML page. Call it under ``styled``.

    ``name`` keeps its ids apart from those of other figures; ``label`` is what a screen reader says. The
    element names no address: not even that of the SVG standard, which HTML does not need.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    svg = _own_ids(svg, name)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg {box.group(0) if box else ""} role="img" aria-label="{escape(label, quote=True)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()


def _own_ids(svg: str, name: str) -> str:
    """Drop ids that nothing refers to, prefix the others: ids are unique in a page."""
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r'\s+id="([^"]+)"', rename, svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
