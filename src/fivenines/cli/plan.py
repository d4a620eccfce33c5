"""How many labels: before anything is labelled, and what those at hand can show already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fivenines.errors import ConfigError, sentence
from fivenines.task import Task

if TYPE_CHECKING:  # a command loads scipy when it runs, so that --help does not
    from fivenines.pipeline.at_hand import Held, Next
    from fivenines.stats.planning import Plan, Prices

__all__ = ["register"]

_STYLES = {
    "bound that trusts nothing": "green",
    "bound for a known weight limit": "cyan",
    "bound under a model": "yellow",
    "estimate only": "yellow",
}
_MINUTES = {"s": 1 / 60, "sec": 1 / 60, "min": 1.0, "h": 60.0, "": 1.0}

Folder = Annotated[Path | None, typer.Argument(help="A task: what its labels show already.", metavar="DIR")]
Below = Annotated[float | None, typer.Option(help="Show a failure rate of at most this.", metavar="RATE")]
Quality = Annotated[float | None, typer.Option(help="Show a quality of at least this; 0.5: as unfiltered.")]
AttackRatio = Annotated[
    float | None, typer.Option(help="See attacks get this many times as costly.", metavar="TIMES")
]
Expect = Annotated[float | None, typer.Option(help="The true rate or quality that is hoped for.")]
Confidence = Annotated[
    float, typer.Option(help="Of the bound, one-sided (0.975: end of a 95% interval); of attacks two-sided.")
]
Power = Annotated[float, typer.Option(help="The probability of showing it if what is expected is true.")]
LabelsEach = Annotated[int | None, typer.Option(help="Labels for each item; else the task's, or 1.")]
Price = Annotated[float | None, typer.Option(help="Money for a label.")]
Seconds = Annotated[float | None, typer.Option(help="Seconds for a label; else as the task's labels took.")]
Budget = Annotated[int, typer.Option(help="Reused labels: the most draws of the filter for a prompt.")]
WeightBound = Annotated[float, typer.Option(help="Unequal sampling: the largest weight an item can have.")]
Oversampled = Annotated[
    float, typer.Option(help="Unequal sampling: how many times as often it draws failures.")
]
Explained = Annotated[
    float, typer.Option(help="Assisted estimate: share of the variance that predictions explain.")
]
Rejected = Annotated[float | None, typer.Option(help="Quality: share of first draws that are rejected.")]
CostPerSuccess = Annotated[
    str | None, typer.Option(help='Attacks: people\'s time for a success now, as in "13 min".')
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel="What it takes")(plan)


def plan(
    folder: Folder = None,
    below: Below = None,
    quality: Quality = None,
    attack_ratio: AttackRatio = None,
    expect: Expect = None,
    confidence: Confidence = 0.95,
    power: Power = 0.8,
    labels_each: LabelsEach = None,
    price: Price = None,
    seconds: Seconds = None,
    budget: Budget = 50,
    weight_bound: WeightBound = 2.0,
    oversampled: Oversampled = 1.0,
    explained: Explained = 0.9,
    rejected: Rejected = None,
    cost_per_success: CostPerSuccess = None,
    as_json: AsJson = False,
) -> None:
    """Labels, money and hours to show a rate, a quality or a difference, by each method; needs no data.

    With a task's folder: what the labels at hand can show, and how many more each target takes.
    """
    from fivenines.stats.planning import Prices

    goals = {"--below": below, "--quality": quality, "--attack-ratio": attack_ratio}
    given = {"--expect": expect, "--rejected": rejected, "--cost-per-success": cost_per_success}
    _check_goal(folder, _named(goals), _named(given))
    if folder is not None:
        _plan_task(Task.load(folder), below, confidence, (labels_each, price, seconds), as_json)
        return
    prices = Prices(1 if labels_each is None else labels_each, price, seconds)
    if below is not None:
        unequal = (weight_bound, oversampled)
        plans = _rate_plans(below, expect, confidence, power, budget, unequal, explained)
    elif quality is not None:
        plans = _quality_plans(quality, rejected, expect, confidence, power)
    else:
        plans = _attack_plans(attack_ratio, cost_per_success, confidence, power)
    if as_json:
        typer.echo(json.dumps({"plans": [_priced(one, prices) for one in plans]}, indent=2))
        return
    console = Console()
    _print_plans(console, plans, prices)
    if attack_ratio is None:
        two_sided = f"to have the end of a two-sided {100 * confidence:.6g}% interval there"
        _print_notes(console, [f"{two_sided}: --confidence {(1 + confidence) / 2:g}"])


def _named(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value is not None]


def _check_goal(folder: Path | None, goals: Sequence[str], given: Sequence[str]) -> None:
    """One goal, and only the options that go with it."""
    if "--expect" in given and "--attack-ratio" in goals:
        raise ConfigError(sentence("--expect", "must come with --below or --quality", "--attack-ratio"))
    if folder is None and len(goals) != 1:
        must = "needs a task's folder, or one of --below, --quality and --attack-ratio"
        raise ConfigError(sentence("plan", must, " and ".join(goals) or "none"))
    if folder is not None and (given or goals not in ([], ["--below"])):
        raise ConfigError(sentence("plan of a task", "takes --below alone", " and ".join([*goals, *given])))
    for name, goal in (("--rejected", "--quality"), ("--cost-per-success", "--attack-ratio")):
        if name in given and goal not in goals:
            raise ConfigError(sentence(name, f"must come with {goal}", goals[0]))
    if "--quality" in goals and "--rejected" not in given:
        then = "It is the share of prompts whose first draw the filter rejects."
        raise ConfigError(sentence("--quality", "must come with --rejected", "none", then))


# Before anything is labelled


def _rate_plans(
    below: float,
    expect: float | None,
    confidence: float,
    power: float,
    budget: int,
    unequal: tuple[float, float],
    explained: float,
) -> list[Plan]:
    from fivenines.stats import planning
    from fivenines.stats.binomial import LEAST_RATE

    if 0.0 < below < LEAST_RATE:
        raise ConfigError(sentence("--below", f"must be at least {LEAST_RATE:g}", below))
    expected = 0.0 if expect is None else expect
    bound, oversampled = unequal
    if not oversampled > 0.0:
        raise ConfigError(sentence("--oversampled", "must be positive", oversampled))
    plans = [planning.plan_failure_rate_exact(below, expected, confidence, power, allowed=0)]
    if expected > 0.0:
        plans.append(planning.plan_failure_rate_exact(below, expected, confidence, power))
    return [
        *plans,
        planning.plan_failure_rate_weighted(
            below, bound, expected, confidence, power, failure_weight=1.0 / oversampled
        ),
        planning.plan_failure_rate_reused(below, budget, expected, confidence, power),
        planning.plan_failure_rate_assisted(
            expected if expected > 0.0 else below, explained, confidence=confidence
        ),
    ]


def _quality_plans(
    quality: float, rejected: float | None, expect: float | None, confidence: float, power: float
) -> list[Plan]:
    from fivenines.stats.planning import plan_preference_coupled, plan_preference_exact

    assert rejected is not None  # checked with the goal
    expected = 0.5 if expect is None else expect
    return [
        plan_preference_coupled(quality, rejected, expected, confidence, power),
        plan_preference_exact(quality, expected, confidence, power),
    ]


def _attack_plans(ratio: float | None, cost: str | None, confidence: float, power: float) -> list[Plan]:
    from fivenines.stats.planning import plan_attack_ratio

    assert ratio is not None  # checked with the goal
    return [plan_attack_ratio(ratio, 0.0 if cost is None else _minutes(cost), confidence, power)]


def _minutes(text: str) -> float:
    """ "13 min", "90 s", "0.5 h"; a number alone is minutes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _MINUTES:
        raise ConfigError(
            sentence("--cost-per-success", 'must be a time like "13 min", "90 s" or "1 h"', text)
        )
    return float(found[1]) * _MINUTES[found[2]]


def _priced(one: Plan, prices: Prices) -> dict[str, Any]:
    return {**one.to_dict(), "money": prices.money(one), "hours": prices.hours(one)}


def _print_plans(console: Console, plans: Sequence[Plan], prices: Prices) -> None:
    """A line for each method; below, what it shows and assumes."""
    table = Table()
    table.add_column("")
    table.add_column("method")
    for name in ("labels", *_cost_columns(prices, plans), "power"):
        table.add_column(name, justify="right")
    table.add_column("rests on")
    for number, one in enumerate(plans, start=1):
        power = "" if one.power is None else f"{one.power:.2f}"
        costs = _costs(prices, plans, one)
        basis = f"[{_STYLES[one.basis]}]{one.basis}[/]"
        table.add_row(str(number), one.method, f"{one.labels:,}", *costs, power, basis)
    console.print(table)
    for number, one in enumerate(plans, start=1):
        trusting = f", if {one.trusts}" if one.trusts else ""
        line = f"{number}. {one.basis}: {one.shows}{trusting}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        _print_notes(
            console, [*(f"  assumes: {text}" for text in one.assumptions), *map("  {}".format, one.notes)]
        )


def _cost_columns(prices: Prices, plans: Sequence[Plan]) -> list[str]:
    """Money and hours, where they are known."""
    hours = any(prices.hours(one) is not None for one in plans)
    return ["money"] * (prices.price is not None) + ["hours"] * hours


def _costs(prices: Prices, plans: Sequence[Plan], one: Plan) -> list[str]:
    cells = []
    for name in _cost_columns(prices, plans):
        value = prices.money(one) if name == "money" else prices.hours(one)
        cells.append("" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}")
    return cells


# What the labels at hand can show


def _plan_task(
    task: Task,
    below: float | None,
    confidence: float,
    costs: tuple[int | None, float | None, float | None],
    as_json: bool,
) -> None:
    from fivenines.pipeline.at_hand import TARGETS, labels_at_hand
    from fivenines.stats.planning import Prices

    found = labels_at_hand(task, TARGETS if below is None else (below,), confidence)
    each, price, seconds = costs
    prices = Prices(
        task.labels.per_item if each is None else each, price, found.seconds if seconds is None else seconds
    )
    if as_json:
        held = [
            {**one.to_dict(), "targets": [_next_json(target, prices) for target in one.targets]}
            for one in found.held
        ]
        quality = [
            {"prompts": name, "at_least": low, "level": level, "compared": pairs}
            for name, (low, level, pairs) in found.quality.items()
        ]
        whole = {"task": task.name, "confidence": confidence, "at_hand": held, "quality": quality}
        typer.echo(json.dumps(whole, indent=2))
        return
    console = Console()
    if not found.held:
        line = f"No drawn text has been asked about yet. Next: fivenines run {task.folder}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        return
    _print_held(console, found.held, confidence)
    _print_next(console, found.held, prices)
    for name, (low, level, pairs) in found.quality.items():
        line = f"Quality at the last evaluation, prompts '{name}': at least {low:.3f} "
        line += f"(two-sided {100 * level:.6g}%, {pairs:,} pairs compared)"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _next_json(one: Next, prices: Prices) -> dict[str, Any]:
    plans = {"more": one.more, "anew": one.anew}
    priced = {name: None if value is None else _priced(value, prices) for name, value in plans.items()}
    return {"target": one.target, "state": one.state, **priced}


def _print_held(console: Console, all_held: Sequence[Held], confidence: float) -> None:
    table = Table(title="What the labels at hand show", title_justify="left")
    for name in ("labels on", "prompts"):
        table.add_column(name)
    for name in ("labels", "failures", f"rate at most ({100 * confidence:.6g}%)"):
        table.add_column(name, justify="right")
    for held in all_held:
        table.add_row(
            held.purpose,
            escape(held.prompts),
            f"{held.labels:,}",
            f"{held.failures:,}",
            _outwards(held.at_most, up=True),
        )
    console.print(table)
    notes = ["exact binomial, one-sided, a number of labels fixed beforehand: a bound that trusts nothing"]
    if unsure := sum(held.unsure for held in all_held):
        notes.append(f"{unsure:,} unsure count as failures")
    if missing := sum(held.missing for held in all_held):
        notes.append(f"{missing:,} without an answer are left out: right only if they are missing at random")
    if len({held.prompts for held in all_held}) > 1:
        notes.append("a text that was drawn for two distributions of prompts counts for the first")
    _print_notes(console, notes)


def _print_next(console: Console, all_held: Sequence[Held], prices: Prices) -> None:
    every = [one for held in all_held for one in held.targets if one.more is not None]
    plans = [plan for one in every for plan in (one.more, one.anew) if plan is not None]
    table = Table(title="What it takes, if no further failure appears", title_justify="left")
    for name in ("labels on", "prompts"):
        table.add_column(name)
    for name in ("rate below", "more labels", "or anew", *_cost_columns(prices, plans)):
        table.add_column(name, justify="right")
    for held in all_held:
        excluded = [f"{one.target:g}" for one in held.targets if one.state == "excluded"]
        if excluded:
            above = f"it is above {_outwards(held.at_least, up=False)}"
            table.add_row(held.purpose, escape(held.prompts), ", ".join(excluded), above)
        for one in held.targets:
            cells = [held.purpose, escape(held.prompts), f"{one.target:g}"]
            if one.state == "shown":
                table.add_row(*cells, "shown")
            elif one.more is not None and one.anew is not None:
                fewer = min(one.more, one.anew, key=lambda plan: plan.labels)
                costs = _costs(prices, plans, fewer)
                table.add_row(*cells, f"{one.more.labels:,}", f"{one.anew.labels:,}", *costs)
    console.print(table)
    notes = [
        "more labels: counted with those at hand by betting, a bound that holds whenever one looks",
        "or anew: a new sample without them, by the exact binomial; its size is fixed beforehand",
    ]
    if _cost_columns(prices, plans):
        notes.append(f"{' and '.join(_cost_columns(prices, plans))}: of the smaller of the two")
    _print_notes(console, notes)


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"  {note}", style="dim", highlight=False, soft_wrap=True, markup=False)


def _outwards(bound: float, *, up: bool) -> str:
    from fivenines.stats.estimate import rounded_outwards

    return f"{rounded_outwards(bound, up=up, digits=2):.4g}"
