"""What the command line prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fivenines.files import read_json
from fivenines.filtering import FilterStats
from fivenines.pipeline.labelling import WHY, Waiting
from fivenines.pipeline.status import Status
from fivenines.stats import Estimate
from fivenines.task import Task

__all__ = ["print_cost", "print_outcome", "print_status", "print_waiting"]

_STATES = {
    "done": "[green]done[/green]",
    "partial": "[yellow]begun[/yellow], goes on from there",
    "stale": "[yellow]out of date[/yellow]: something it depends on has changed",
    "missing": "[dim]not yet[/dim]",
}


def print_status(console: Console, status: Status) -> None:
    """Steps, labels, and what to do next."""
    steps = Table(title=f"{status.task.name}: {status.task.behavior}", title_justify="left")
    steps.add_column("step")
    steps.add_column("state")
    for name, state in status.steps.items():
        steps.add_row(name, _STATES[state])
    console.print(steps)
    labels = Table(title="labels", title_justify="left")
    for column in ("purpose", "snippets", "labels given", "of", "why"):
        labels.add_column(column, justify="left" if column in ("purpose", "why") else "right")
    for purpose, count in status.labels.items():
        if count.items:
            labels.add_row(purpose, f"{count.items:,}", f"{count.done:,}", f"{count.needed:,}", WHY[purpose])
    if labels.row_count:
        console.print(labels)
    if status.waiting:
        print_waiting(console, status.task, status.waiting)
    elif status.next_step is not None:
        console.print(f"Next: fivenines run {status.task.folder}  ({status.next_step})", highlight=False)
    else:
        console.print(f"All done: {_report(status.task)}", highlight=False, soft_wrap=True)


def print_waiting(console: Console, task: Task, waiting: Sequence[Waiting], then: str | None = None) -> None:
    """What people have to do, and how; ``then`` is the command that goes on, by default `fivenines run`."""
    console.print("\nWaiting for people:", style="bold")
    for one in waiting:
        console.print(f"  {one}", highlight=False)
    compare = all(one.purpose == "compare" for one in waiting)
    option = " --purpose compare" if compare else ""
    console.print(
        f"How: fivenines label export {task.folder}{option} --out questions.jsonl\n"
        "     fill in the answers (failure, ok or unsure; for preferences left, right or tie), by the guidelines in\n"
        f"     {task.path(task.guidelines)}\n"
        f"     fivenines label import {task.folder} questions.jsonl --labeler NAME\n"
        f"     {then or f'fivenines run {task.folder}'}",
        highlight=False,
        soft_wrap=True,
    )


def print_outcome(console: Console, task: Task, until: str, taken: Mapping[str, float]) -> None:
    """The summary of the evaluation when the run came so far, and the seconds each step took."""
    if until in ("evaluation", "report"):
        print_summary(console, read_json(task.folder / "runs" / "evaluation" / "evaluation.json"))
    if taken:
        console.print("  ".join(f"{name} {seconds:.0f} s" for name, seconds in taken.items()), style="dim")
    else:
        console.print("Everything was done already.", style="dim")
    if until == "report":
        console.print(f"Report: {_report(task)}", highlight=False, soft_wrap=True)


def print_cost(console: Console, stats: FilterStats) -> None:
    """What filtered generation cost."""
    seconds = stats.generating_seconds + stats.scoring_seconds
    console.print(
        f"{stats.outputs - stats.abstentions:,} outputs, {stats.abstentions:,} abstentions; "
        f"{stats.draws_per_output:.2f} draws per output, {seconds:.1f} s",
        highlight=False,
    )


def _report(task: Task) -> str:
    return str(task.folder / "runs" / "report" / "report.html")


def interval(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """``point (low to high)`` of an estimate read from JSON, or that it was not measured."""
    if estimate is None:
        return "not measured"
    one = Estimate.from_dict(dict(estimate))
    low, high = one.rounded(digits)
    point = "not known" if math.isnan(one.point) else f"{one.point:.{digits}g}"
    return f"{point} ({low:.{digits}g} to {high:.{digits}g})"


def print_summary(console: Console, evaluation: Mapping[str, Any]) -> None:
    """What was measured, a column for each distribution of prompts."""
    columns: list[dict[str, Any]] = evaluation["distributions"]
    table = Table(
        title="95% intervals" if evaluation["level"] == 0.95 else f"{evaluation['level']:g} intervals"
    )
    table.add_column("")
    for column in columns:
        table.add_column(f"prompts: {column['name']}", justify="right")
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("failure rate, unfiltered", lambda c: interval(c["unfiltered_failure_rate"])),
        ("failure rate, filtered", lambda c: interval(c["filtered_failure_rate"])),
        ("   the same, reused labels", lambda c: interval(c["reused_failure_rate"])),
        ("at least", lambda c: _nines(c["filtered_failure_rate"])),
        ("true rate, unfiltered", lambda c: _truth(c, "unfiltered_failure_rate")),
        ("true rate, filtered", lambda c: _truth(c, "filtered_failure_rate")),
        ("quality (0.5: as unfiltered)", lambda c: interval(c["quality"], 3)),
        ("acceptance of a draw", lambda c: interval(c["acceptance"], 3)),
        ("draws per output", lambda c: interval(c["draws_per_output"], 3)),
        ("abstentions", lambda c: f"{c['counts']['abstentions']:,} of {c['counts']['prompts']:,}"),
        ("outputs per second", lambda c: f"{c['outputs_per_second']:,.0f}"),
    ]
    for name, cell in rows:
        if not name.startswith("true") or any(column["truth"] for column in columns):
            table.add_row(name, *(cell(column) for column in columns))
    console.print(table)


def _nines(estimate: Mapping[str, Any]) -> str:
    return f"{Estimate.from_dict(dict(estimate)).nines:.1f} nines"


def _truth(column: Mapping[str, Any], name: str) -> str:
    known = next((one for one in column["truth"] if one["name"] == name), None)
    if known is None:
        return ""
    return f"{known['value']:.2g} ({'inside' if known['contained'] else 'outside'} the interval)"
