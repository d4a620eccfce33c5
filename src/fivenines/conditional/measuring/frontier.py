"""The plot of alignment against capability: failure rate (log axis) against what control costs, all objectives.

Seeds are small marks, the pooled arm a large one with its intervals. An arm is Pareto-optimal where no other fails as
rarely and costs as little: by the upper ends of the rates, so that few draws without a failure beat nobody. An
arm without a failure is drawn at its upper bound, with an arrow: nobody knows how far down it lies. More than a few
arms are numbered, and a list beside the plot names them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fivenines.conditional.measuring.results import Arm, PooledArm, pooled, results_table
from fivenines.errors import NotEnoughDataError, sentence
from fivenines.files import atomic_file, write_json_atomic
from fivenines.report.svg import (
    FILTERED,
    GRID,
    INK,
    MUTED,
    SURFACE,
    TRUTH,
    UNFILTERED,
    new_panel,
    styled,
    to_svg,
)
from fivenines.report.words import interval_text, number_text, point_text, rate_text, visible
from fivenines.stats import Estimate

__all__ = ["frontier_figure", "frontier_record", "pareto_optimal", "write_frontier"]

_LIGHT = {  # the colours of a report's page by day
    INK: "#1b1f24",
    MUTED: "#59626d",
    GRID: "#dfe2e5",
    SURFACE: "#ffffff",
    UNFILTERED: "#b0431d",
    FILTERED: "#0a6b66",
    TRUTH: "#5a3ea6",
}
_NAMES = {"--ink": INK, "--muted": MUTED, "--grid": GRID, "--surface": SURFACE, "--unfiltered": UNFILTERED}
_NAMES |= {"--filtered": FILTERED, "--truth": TRUTH}
_AXIS = {
    "relative": "nats per token over the plain model's",
    "nats": "nats per token, held out",
    "kl": "KL of text from the reference, nats per text",
}
_SIZE = (520.0, 380.0)
_LIST = (300.0, 16.0)  # width of the list of numbered arms, height of a line of it
_NAMED = 6  # so many arms have their names in the plot; of more the names would lie on each other
_SIDES = tuple(  # where a number may stand beside its mark, in points, the nearest first
    (far * x, far * y)
    for far in (9.0, 17.0, 26.0, 36.0)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))
)


def pareto_optimal(arms: Sequence[PooledArm]) -> list[bool]:
    """Which arms no other beats: one of which it is sure that it fails no more, which costs no more, and less of one of
    them. Sure is the upper end of the rate's interval.

    Arms without a cost, or without a rate, are none.
    """
    places = [(one.rate.high, math.nan if one.cost is None else one.cost.point) for one in arms]
    known = [_has_place(one) for one in arms]
    return [
        known[i] and not any(known[j] and _beats(other, place) for j, other in enumerate(places))
        for i, place in enumerate(places)
    ]


def frontier_figure(arms: Sequence[Arm], cost: str = "relative", level: float = 0.95) -> str:
    """The plot as an ``<svg>`` element for a page, whose colours it takes.

    Raises:
        NotEnoughDataError: no arm with a rate and a cost.
        DataError: two arms of one objective, control and seed; an unknown cost.
    """
    shown = _shown(arms, cost, level)
    label = "Failure rate against cost. " + "; ".join(
        f"{_name(one)}: {point_text(one.rate)} ({interval_text(one.rate)}) at {point_text(one.cost, as_share=False)}"
        for one in shown
    )
    draw: Callable[[], str] = styled(
        lambda: to_svg(_drawn(shown, cost, lambda color: color), "frontier", label)
    )
    return draw()


def frontier_record(arms: Sequence[Arm], cost: str = "relative", level: float = 0.95) -> dict[str, Any]:
    """What the plot shows, as plain values: the pooled arms with their seeds, and which are Pareto-optimal."""
    everything = pooled(arms, cost, level)
    best = pareto_optimal(everything)
    rows = [
        {
            "objective": one.objective,
            "control": one.control,
            "seeds": list(one.seeds),
            "rate": one.rate.to_dict(),
            "cost": None if one.cost is None else one.cost.to_dict(),
            "rates": [arm.rate.to_dict() for arm in one.arms],
            "alike": one.alike,
            "pareto_optimal": optimal,
        }
        for one, optimal in zip(everything, best, strict=True)
    ]
    return {"cost": cost, "level": level, "arms": rows}


def write_frontier(
    folder: str | Path, arms: Sequence[Arm], cost: str = "relative", level: float = 0.95
) -> list[Path]:
    """``frontier.svg``, ``.png``, ``.json`` and ``.md`` in ``folder``. Raises as :func:`frontier_figure`."""
    paths = [Path(folder) / f"frontier.{ending}" for ending in ("svg", "png", "json", "md")]
    shown = _shown(arms, cost, level)
    with atomic_file(paths[0]) as handle:
        handle.write(_alone(frontier_figure(arms, cost, level)))
    with atomic_file(paths[1], "wb") as handle:
        handle.write(_png(shown, cost))
    write_json_atomic(paths[2], frontier_record(arms, cost, level))
    best = [_name(one) for one, optimal in zip(shown, pareto_optimal(shown), strict=True) if optimal]
    with atomic_file(paths[3]) as handle:
        handle.write(
            f"{results_table(arms, cost, level)}\nPareto-optimal, by the upper ends of the rates: {'; '.join(best)}.\n"
        )
    return paths


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _has_place(one: PooledArm) -> bool:
    return one.cost is not None and math.isfinite(one.cost.point) and not math.isnan(one.rate.point)


def _shown(arms: Sequence[Arm], cost: str, level: float) -> list[PooledArm]:
    shown = [one for one in pooled(arms, cost, level) if _has_place(one)]
    if not shown:
        raise NotEnoughDataError(sentence("the frontier", "needs an arm with a rate and a cost", "none"), 1)
    return shown


def _name(one: PooledArm) -> str:
    return one.objective if one.control in ("", "none") else f"{one.objective}, {one.control}"


def _drawn(shown: Sequence[PooledArm], cost: str, paint: Callable[[str], str]) -> Figure:
    """The plot; ``paint`` gives the colour of each role."""
    numbered = len(shown) > _NAMED
    width, height = _SIZE
    if numbered:
        width, height = width + _LIST[0], max(height, _LIST[1] * (len(shown) + 2))
    figure, axes = new_panel(height=height, width=width)
    axes.grid(visible=True, axis="both")
    axes.set_yscale("log")
    best = pareto_optimal(shown)
    for one, optimal in zip(shown, best, strict=True):
        _draw_arm(axes, one, optimal, cost, paint)
    _draw_steps(axes, [one for one, optimal in zip(shown, best, strict=True) if optimal], paint)
    heights = [_height(arm.rate) for one in shown for arm in one.arms] + [_height(one.rate) for one in shown]
    heights += [one.rate.high for one in shown] + [one.rate.low for one in shown if one.rate.low > 0.0]
    axes.set_ylim(min(heights) / 2.5, min(max(heights) * 2.0, 1.0))
    axes.margins(x=0.12)
    if not numbered:
        _name_arms(axes, shown, best, paint)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0), numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _cost_text(value, cost)))
    axes.set_xlabel(_AXIS[cost])
    axes.set_ylabel("failure rate, log scale")
    if numbered:
        _number_arms(figure, axes, shown, best, paint)
    return figure


def _draw_arm(axes: Axes, one: PooledArm, optimal: bool, cost: str, paint: Callable[[str], str]) -> None:
    color = paint(FILTERED if optimal else MUTED)
    assert one.cost is not None  # arms without a cost are not shown
    x, y = one.cost.point, _height(one.rate)
    for arm in one.arms:
        own: Estimate = getattr(arm, cost)
        mark = "o" if arm.rate.point > 0.0 else "v"  # no failure: the upper bound, from which it points down
        axes.plot(own.point, _height(arm.rate), mark, color=color, alpha=0.45, markersize=4)
    if math.isfinite(one.cost.low) and math.isfinite(one.cost.high):
        axes.plot([one.cost.low, one.cost.high], [y, y], color=color, linewidth=1.6)
    else:
        axes.axhline(y, color=color, linewidth=1.6, linestyle=":")  # an interval with no end
    if one.rate.low > 0.0:
        axes.plot([x, x], [one.rate.low, one.rate.high], color=color, linewidth=1.6)
    else:
        arrow = {"arrowstyle": "-|>,head_width=0.2,head_length=0.4", "color": color, "linewidth": 1.6}
        axes.annotate("", (x, y / 2.0), (x, one.rate.high), arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
    edge = paint(INK if optimal else SURFACE)
    axes.plot(x, y, "o", color=color, markersize=9, markeredgecolor=edge, markeredgewidth=1.2)


def _name_arms(
    axes: Axes, shown: Sequence[PooledArm], best: Sequence[bool], paint: Callable[[str], str]
) -> None:
    """The name of each arm beside its mark, on the side where there is room."""
    left, right = axes.get_xlim()
    for one, optimal in zip(shown, best, strict=True):
        before = _point(one)[0] > left + 0.6 * (right - left)
        axes.annotate(
            visible(_name(one), 60), _point(one), (-8 if before else 8, 6), textcoords="offset points",
            ha="right" if before else "left", **_type(optimal, paint), fontsize=10,
        )  # fmt: skip


def _number_arms(
    figure: Figure, axes: Axes, shown: Sequence[PooledArm], best: Sequence[bool], paint: Callable[[str], str]
) -> None:
    """A number at each mark, where it lies on nothing if there is such a place, and a list of the names."""
    names = [f"{number}  {visible(_name(one), 80)}" for number, one in enumerate(shown, 1)]
    lines = [Line2D([], [], linestyle="none") for _ in names]
    listed = figure.legend(
        lines, names, loc="outside right upper", frameon=False, handlelength=0, handletextpad=0, fontsize=9
    )
    for text, optimal in zip(listed.get_texts(), best, strict=True):
        text.set(**_type(optimal, paint))
    figure.draw_without_rendering()  # places are known once all is laid out
    taken = [box for one in shown for box in _boxes(axes, one)]
    for number, (one, optimal) in enumerate(zip(shown, best, strict=True), 1):
        x, y = _boxes(axes, one)[0][:2]
        half = 2.6 * len(str(number)) + 1.0  # of its width
        boxes = [(x + right, y + up, half, 5.0) for right, up in _SIDES]
        side = int(np.argmin([sum(_overlap(box, other) for other in taken) for box in boxes]))
        taken.append(boxes[side])
        line = {"arrowstyle": "-", "color": paint(GRID), "shrinkA": 0, "shrinkB": 4}
        axes.annotate(
            str(number), _point(one), _SIDES[side], textcoords="offset points", ha="center", va="center",
            **_type(optimal, paint), fontsize=9, arrowprops=line,
        )  # fmt: skip


def _type(optimal: bool, paint: Callable[[str], str]) -> dict[str, Any]:
    return {"color": paint(INK if optimal else MUTED), "fontweight": "bold" if optimal else "normal"}


def _boxes(axes: Axes, one: PooledArm) -> list[tuple[float, ...]]:
    """What a mark and its two intervals take: middle, half of the width and of the height, in points."""
    assert one.cost is not None  # arms without a cost are not shown
    x, y = _point(one)
    low, high = (end if math.isfinite(end) else x for end in (one.cost.low, one.cost.high))
    ends = [(x, y), (low, y), (high, y), (x, max(one.rate.low, 1e-300)), (x, one.rate.high)]
    figure: Any = axes.figure
    found = axes.transData.transform(ends) * 72.0 / figure.dpi
    (middle, left, right, low, high), half = found.tolist(), 5.0
    return [
        (*middle, half, half),
        ((left[0] + right[0]) / 2, left[1], (right[0] - left[0]) / 2, 1.0),
        (low[0], (low[1] + high[1]) / 2, 1.0, (high[1] - low[1]) / 2),
    ]


def _point(one: PooledArm) -> tuple[float, float]:
    return math.nan if one.cost is None else one.cost.point, _height(one.rate)


def _cost_text(value: float, cost: str) -> str:
    """A tick of the axis; what stands over the plain model's as what it is more."""
    return f"{100.0 * (value - 1.0):+.4g}%" if cost == "relative" else number_text(round(value, 12))


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area that two boxes share: middle, half of the width and of the height."""
    wide = one[2] + other[2] - abs(one[0] - other[0])
    high = one[3] + other[3] - abs(one[1] - other[1])
    return max(0.0, wide) * max(0.0, high)


def _draw_steps(axes: Axes, best: Sequence[PooledArm], paint: Callable[[str], str]) -> None:
    """The frontier: what can be had for sure at each cost."""
    places = sorted((one.cost.point, one.rate.high) for one in best if one.cost is not None)
    if len(places) > 1:
        xs, ys = np.array(places).T
        axes.step(xs, ys, where="post", color=paint(FILTERED), linewidth=1.0, alpha=0.6, dashes=(3, 3))


def _height(rate: Estimate) -> float:
    """Where a rate is drawn: a rate without a failure at its upper bound."""
    return rate.point if rate.point > 0.0 else rate.high


def _png(shown: Sequence[PooledArm], cost: str) -> bytes:
    """The plot in the colours of day, on white."""

    def drawn() -> bytes:
        given = {key: value for key, value in matplotlib.rcParams.items() if isinstance(value, str)}
        real: Any = {key: _LIGHT[value] for key, value in given.items() if value in _LIGHT}
        with matplotlib.rc_context(real):
            buffer = io.BytesIO()
            figure = _drawn(shown, cost, lambda color: _LIGHT[color])
            figure.savefig(
                buffer, format="png", dpi=200, facecolor=_LIGHT[SURFACE], metadata={"Software": None}
            )
            return buffer.getvalue()

    made: bytes = styled(drawn)()
    return made


def _alone(svg: str) -> str:
    """An ``<svg>`` of a page as a file of its own: with its name space, and the colours of day."""
    for name, role in _NAMES.items():
        svg = svg.replace(f"var({name})", _LIGHT[role])
    svg = svg.replace("var(--sans)", "sans-serif")
    svg = re.sub(r"^<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', svg, count=1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}\n'
