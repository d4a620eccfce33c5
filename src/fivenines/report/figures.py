"""The plots of a report. Each returns an ``<svg>`` element and labels its lines directly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from fivenines.report.curves import Reliability, ScoreCounts
from fivenines.report.records import DrawCounts, History
from fivenines.report.svg import (
    FILTERED,
    INK,
    MUTED,
    SURFACE,
    TRUTH,
    UNFILTERED,
    new_panel,
    styled,
    to_svg,
)
from fivenines.report.words import interval_text, number_text, point_text, rate_text, share_text, visible
from fivenines.stats import Estimate

__all__ = [
    "RateRow",
    "draws_figure",
    "loss_figure",
    "metric_figure",
    "rates_figure",
    "reliability_figure",
    "scores_figure",
    "tradeoff_figure",
]

_EDGE = 1e-6  # scores beyond are drawn at the edge of the logit axis


@dataclass(frozen=True, slots=True)
class RateRow:
    """One line of the plot of failure rates: a system on a distribution of prompts."""

    label: str
    estimate: Estimate
    filtered: bool
    truth: float | None = None


@styled
def rates_figure(rows: Sequence[RateRow]) -> str:
    """Failure rates with their intervals on a log axis; zero failures are an arrow from the upper bound."""
    figure, axes = new_panel(height=46.0 + 46.0 * len(rows))
    left, right = _rate_limits(rows)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(-0.45, len(rows) - 0.3)
    for place, row in enumerate(rows):
        _draw_rate(axes, row, len(rows) - 1 - place, left)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.yaxis.set_major_locator(NullLocator())
    _decades(axes)
    axes.set_xlabel("failure rate, log scale")
    said = "; ".join(
        f"{row.label}: {point_text(row.estimate)}, {interval_text(row.estimate)}" for row in rows
    )
    return to_svg(figure, "rates", f"Failure rates with intervals. {said}")


def _rate_limits(rows: Sequence[RateRow]) -> tuple[float, float]:
    values = [row.truth for row in rows if row.truth]
    for row in rows:
        ends = (row.estimate.low, row.estimate.point, row.estimate.high)
        values += [end for end in ends if end > 0 and math.isfinite(end)]
        if row.estimate.low <= 0:
            values.append(row.estimate.high / 10)  # room for the arrow
    left = math.floor(math.log10(min(values, default=1e-3)) - 0.1)
    right = math.ceil(math.log10(max(values, default=1.0)) + 1e-9)
    return 10.0**left, 10.0 ** min(right, 0) if right > left else 10.0 ** (left + 1)


def _draw_rate(axes: Axes, row: RateRow, y: float, left: float) -> None:
    color = FILTERED if row.filtered else UNFILTERED
    estimate = row.estimate
    if estimate.low > 0:
        axes.plot([estimate.low, estimate.high], [y, y], color=color, linewidth=3.2)
        axes.plot(estimate.point, y, "o", color=color, markersize=6.5)
    else:
        arrow = {"arrowstyle": "-|>,head_width=0.22,head_length=0.5", "color": color, "linewidth": 2.0}
        axes.annotate("", (left, y), (estimate.high, y), arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
        axes.plot(estimate.high, y, "|", color=color, markersize=13, markeredgewidth=2.6)
        if estimate.point > 0:
            axes.plot(estimate.point, y, "o", color=color, markersize=6.5)
    if row.truth:
        axes.plot(row.truth, y, "D", color="none", markeredgecolor=TRUTH, markersize=7, markeredgewidth=1.6)
    point = "" if estimate.point == 0 or math.isnan(estimate.point) else f"{point_text(estimate)}, "
    axes.annotate(
        visible(row.label, 60), (0, y), (0, 12), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="baseline", color=color, fontweight="bold", fontsize=10.5,
    )  # fmt: skip
    axes.annotate(
        f"{point}{interval_text(estimate)}", (1, y), (0, 12), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="baseline", ha="right", color=INK, fontsize=10.5,
    )  # fmt: skip


@styled
def tradeoff_figure(
    points: Sequence[tuple[float, Estimate]],
    threshold: float | None,
    name: str,
    title: str,
    log: bool = False,
) -> str:
    """One quantity against the threshold, with its interval as a band and the chosen threshold as a line."""
    figure, axes = new_panel(height=210.0)
    known = [(at, estimate) for at, estimate in points if 0 < at < 1]
    xs = np.array([at for at, _ in known])
    lows, highs, middles = (np.array([getattr(e, end) for _, e in known]) for end in ("low", "high", "point"))
    _logit_axis(axes, xs, threshold)
    if log:
        axes.set_yscale("log")
        floor = _floor(np.concatenate([lows, highs]))
        lows, middles = np.maximum(lows, floor), np.where(middles > 0, middles, np.nan)
        axes.set_ylim(floor, 1.0)
        _decades(axes, which="y")
    else:
        axes.set_ylim(0.0, 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    color = UNFILTERED if log else FILTERED
    axes.fill_between(xs, lows, highs, color=color, alpha=0.20, linewidth=0)
    for edge in (lows, highs):
        axes.plot(xs, edge, color=color, linewidth=0.8, alpha=0.7)
    axes.plot(xs, middles, color=color, linewidth=2.0)
    axes.set_xlabel("threshold")
    _threshold_line(axes, threshold)
    return to_svg(figure, name, f"{title} against the threshold")


@styled
def scores_figure(scores: ScoreCounts, threshold: float | None) -> str:
    """How many failures and ok snippets have each score; counts on a log axis."""
    figure, axes = new_panel(height=250.0)
    edges = np.clip(scores.edges, _EDGE, 1 - _EDGE)
    x = np.log(edges / (1 - edges))
    for counts, color, label in ((scores.oks, FILTERED, "ok"), (scores.failures, UNFILTERED, "failure")):
        heights = np.where(np.asarray(counts) > 0, counts, 0.5)
        axes.stairs(heights, x, baseline=0.5, fill=True, color=color, alpha=0.20)
        axes.stairs(heights, x, baseline=0.5, color=color, linewidth=1.6)
        top = int(np.argmax(counts))
        axes.annotate(
            label, ((x[top] + x[top + 1]) / 2, max(counts[top], 0.6)), (0, 4), textcoords="offset points",
            ha="center", color=color, fontweight="bold",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.5, 4.0 * max(1, *scores.failures, *scores.oks))
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axes.set_ylabel("snippets, log scale")
    _logit_ticks(axes, x[0], x[-1])
    axes.set_xlabel("score, P(failure)")
    if threshold is not None and 0 < threshold < 1:
        _threshold_line(axes, math.log(threshold / (1 - threshold)), threshold)
    return to_svg(figure, "scores", "Counts of failures and ok snippets by score, with the threshold")


@styled
def reliability_figure(reliability: Reliability) -> str:
    """Share of failures against the mean score of each bin; on the diagonal a score means what it says."""
    figure, axes = new_panel(height=280.0)
    bins = [b for b in reliability.bins if b.rate.n > 0]
    values = [b.score for b in bins] + [b.rate.high for b in bins]
    floor = max(_floor(np.array(values)), 1e-7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(floor, 1.4)
    axes.set_ylim(floor, 1.4)
    axes.plot([floor, 1], [floor, 1], color=MUTED, linewidth=1.2, dashes=(4, 3))
    for item in bins:
        x = min(max(item.score, floor), 1.0)
        seen = item.rate.point > 0
        ends = [max(item.rate.low, floor), item.rate.high]
        axes.plot([x, x], ends, color=FILTERED, linewidth=2.0 if seen else 1.0, alpha=1.0 if seen else 0.6)
        if seen:
            axes.plot(x, item.rate.point, "o", color=FILTERED, markersize=7, markeredgecolor=SURFACE)
        else:
            axes.plot(x, item.rate.high, "_", color=FILTERED, markersize=10, markeredgewidth=2.2)
    _decades(axes)
    _decades(axes, which="y")
    axes.set_xlabel("mean score of the bin")
    axes.set_ylabel("failures in the bin")
    return to_svg(figure, "reliability", "Share of failures against the score, with intervals")


@styled
def draws_figure(draws: DrawCounts) -> str:
    """Outputs by the number of draws they took; abstentions stand apart."""
    counts, abstained = draws.counts, draws.abstained
    figure, axes = new_panel(height=230.0)
    last = max((i + 1 for i, count in enumerate(counts) if count), default=1)
    xs = np.arange(1, last + 1)
    axes.bar(xs, counts[:last], width=0.82, color=FILTERED, alpha=0.85)
    axes.set_xticks(np.unique(np.linspace(1, last, min(last, 8)).round()))
    if abstained:
        place = last + max(1.5, 0.08 * last)
        axes.bar(place, abstained, width=0.82, color=UNFILTERED)
        axes.annotate(
            f"abstained {abstained:,}", (place, abstained), (0, 4), textcoords="offset points", ha="right",
            color=UNFILTERED, fontweight="bold",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.5, 3.0 * max([1, abstained, *counts]))
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axes.set_xlabel("draws")
    axes.set_ylabel("outputs, log scale")
    return to_svg(figure, "draws", "Outputs by the number of draws that they took")


@styled
def loss_figure(history: History, name: str) -> str:
    """Training loss by step, and its running mean."""
    figure, axes = new_panel()
    losses = np.array([math.nan if loss is None else loss for loss in history.losses])
    steps = history.every * np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=MUTED, linewidth=0.8, alpha=0.4)
    axes.plot(steps, _smoothed(losses), color=INK, linewidth=1.8)
    if np.nanmin(losses, initial=0.0) >= 0:
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    return to_svg(figure, f"{name}-loss", f"Training loss of the {name} over {int(steps[-1]):,} steps")


@styled
def metric_figure(history: History, name: str) -> str:
    """The validation metric by step, with the step whose weights were kept."""
    figure, axes = new_panel()
    known = [(step, value) for step, value in history.metrics if value is not None]
    axes.plot(*zip(*known, strict=True), "o-", color=FILTERED, linewidth=1.8, markersize=5)
    for step, value in known:
        if step == history.best_step:
            axes.plot(
                step, value, "o", color=FILTERED, markersize=9, markeredgecolor=INK, markeredgewidth=1.4
            )
            axes.annotate(
                f"{value:.3g}", (step, value), (0, 8), textcoords="offset points", ha="center", color=INK
            )
    axes.margins(y=0.2)
    axes.set_xlabel("step")
    label = f"Validation metric of the {name}: " + ", ".join(f"{v:.3g} at step {s:,}" for s, v in known[:20])
    return to_svg(figure, f"{name}-metric", label)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Mean over the last 2% of the steps, NaN left out."""
    width = max(1, len(values) // 50)
    known = np.where(np.isfinite(values), values, 0.0)
    total = np.convolve(known, np.ones(width))[: len(values)]
    count = np.convolve(np.isfinite(values), np.ones(width))[: len(values)]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _floor(values: np.ndarray) -> float:
    positive = values[np.isfinite(values) & (values > 0)]
    return min(0.1, 10.0 ** math.floor(math.log10(positive.min()))) if positive.size else 1e-4


def _decades(axes: Axes, which: str = "x") -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=10, subs=(1.0,), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _decade(value)))


def _decade(value: float) -> str:
    if value == 1:
        return "100%"
    return share_text(value) if value >= 1e-3 else _power(value)


def _power(value: float) -> str:
    return rate_text(value).split("×\u00a0")[-1]


def _logit_axis(axes: Axes, xs: np.ndarray, threshold: float | None) -> None:
    ends = [*xs.tolist(), *([threshold] if threshold is not None and 0 < threshold < 1 else [])]
    low, high = max(min(ends, default=0.01), 1e-7), min(max(ends, default=0.99), 1 - 1e-7)
    axes.set_xscale("logit")
    axes.set_xlim(low, high if high > low else min(low * 2, 1 - 1e-7))
    ticks = [t for t in _TICKS if low * 0.999 <= t <= high * 1.001]
    if len(ticks) < 2:  # a narrow range names its own ends
        ticks = [low, high]
    axes.xaxis.set_major_locator(FixedLocator(_thinned(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _score_text(value)))


def _logit_ticks(axes: Axes, low: float, high: float) -> None:
    odds = {math.log(t / (1 - t)): t for t in _TICKS}
    ticks = _thinned([place for place in odds if low - 1e-6 <= place <= high + 1e-6])
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, at: _score_text(odds[ticks[at or 0]])))


_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def _thinned(ticks: list[float]) -> list[float]:
    return ticks if len(ticks) <= 7 else ticks[::2]


def _score_text(score: float) -> str:
    if score < 1e-3:
        return _power(score)
    return f"{score:.3g}" if score < 0.99 else f"{score:.6g}"


def _threshold_line(axes: Axes, place: float | None, shown: float | None = None) -> None:
    if place is None:
        return
    value = place if shown is None else shown
    axes.axvline(place, color=INK, linewidth=1.2, dashes=(2, 2))
    left, right = axes.transData.inverted().transform(axes.transAxes.transform([(0, 0), (1, 0)]))[:, 0]
    middle = axes.transData.inverted().transform(axes.transAxes.transform([(0.5, 0)]))[0, 0]
    before = place > middle if left < right else place < middle
    axes.annotate(
        f"threshold {number_text(value)}", (place, 1.0), (3 if before else -3, 3),
        xycoords=("data", "axes fraction"), textcoords="offset points", va="bottom",
        ha="right" if before else "left", color=INK, fontsize=10,
    )  # fmt: skip
