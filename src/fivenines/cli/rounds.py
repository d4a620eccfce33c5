"""Attack the classifier, harden it in rounds, and see what the rounds came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fivenines.cli.tasks import Folder, Quiet
from fivenines.task import Task

if TYPE_CHECKING:  # a command loads torch when it runs, so that --help does not
    from fivenines.rounds.history import FamilyCost, RoundSummary
    from fivenines.stats import Estimate

__all__ = ["app", "register"]

app = typer.Typer(help="See what the adversarial rounds came to.", no_args_is_help=True)

Number = Annotated[
    int | None, typer.Option("--round", min=0, help="The classifier of this round; the last one if left out.")
]


def register(parent: typer.Typer) -> None:
    """Add the commands of this file."""
    panel = "Attack and harden"
    parent.command(rich_help_panel=panel)(attack)
    parent.command("round", rich_help_panel=panel)(round_)
    parent.command(rich_help_panel=panel)(understood)
    parent.add_typer(app, name="rounds", rich_help_panel=panel)


def round_(
    folder: Folder,
    rounds: Annotated[int, typer.Option("--rounds", "-n", min=1, help="How many further rounds.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Attack the classifier, learn from what fooled it, set the threshold again at the same quality, and measure.

    Goes on where it was stopped or killed. Exit code 3: what fooled the classifier waits for people's labels.
    """
    from fivenines.cli.tables import print_waiting
    from fivenines.rounds.rounds import run_rounds

    task, console = Task.load(folder), Console()
    done = run_rounds(
        task,
        rounds,
        progress=not quiet and console.is_terminal,
        say=lambda line: None if quiet else console.print(f"[dim]{line} ...[/dim]"),
    )
    if done.rounds:
        show(folder)
    if done.waiting:
        print_waiting(console, task, done.waiting, f"fivenines round {folder}")
        if any(one.purpose == "attack" for one in done.waiting):
            raise typer.Exit(3)


def attack(
    folder: Folder,
    family: Annotated[
        str,
        typer.Option(
            help="words, characters, gradient, recombination, prompts, paraphrase, sampling or guided."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The log of attempts, JSONL; resumes.", metavar="FILE")],
    number: Number = None,
    starts: Annotated[int, typer.Option(min=1, help="How many failing texts to attack.")] = 100,
    queries: Annotated[int, typer.Option(min=0, help="Scored texts for each of them.")] = 400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Quiet = False,
) -> None:
    """Attack the classifier of a task, from failing texts that it did not learn from; see what a success costs.

    storyworld confirms successes itself; of other texts a label must say that they still fail.
    """
    from fivenines.rounds.attacking import attack_task

    console = Console()
    found = attack_task(
        Task.load(folder),
        family,
        out,
        number=number,
        starts=starts,
        queries=queries,
        seed=seed,
        progress=not quiet and console.is_terminal,
    )
    console.print(str(found), highlight=False, soft_wrap=True)


def understood(
    folder: Folder,
    n: Annotated[int, typer.Option(min=1, help="Continuations of each kind.")] = 50,
    share: Annotated[float, typer.Option(help="How much more often counts as understood.")] = 0.1,
) -> None:
    """Did the generator know? Whether its continuations treat the failures that passed the filter as failures."""
    from fivenines.evaluate.understanding import UnderstandingConfig
    from fivenines.pipeline.understanding import understood_failures

    console = Console()
    found = understood_failures(Task.load(folder), config=UnderstandingConfig(n=n, share=share))
    for one in found:
        console.print(one.snippet.text, highlight=False, soft_wrap=True)
        console.print(f"  {one}", style="dim", highlight=False, soft_wrap=True)
    verdicts = [one.verdict for one in found]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
    console.print(f"{len(found)} failures that passed the filter: {counts or 'none judged yet'}")


@app.command()
def show(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Every classifier against what fooled each; loads them all.")
    ] = False,
) -> None:
    """Each round: what it learnt, its threshold, and what it costs to fool its classifier."""
    from fivenines.rounds.history import history, transfer_of_rounds

    task, console = Task.load(folder), Console()
    found = history(task)
    won = any(cost.totals.successes > cost.passed for one in found for cost in one.costs)
    matrix = transfer_of_rounds(task, [one.number for one in found]) if transfer and won else None
    if as_json:
        content = {"rounds": [one.to_dict() for one in found]}
        typer.echo(json.dumps(content | ({} if matrix is None else {"transfer": matrix.to_dict()}), indent=2))
        return
    if not found:
        console.print(f"No round is done. Start one: fivenines round {folder}", highlight=False)
        return
    console.print(_rounds_table(found))
    if any(one.costs for one in found):
        console.print(_costs_table(found))
    if matrix is not None:
        console.print(str(matrix), highlight=False, soft_wrap=True)
    elif transfer:
        console.print("No confirmed find yet, so there is nothing to transfer.", highlight=False)


def _rounds_table(found: list[RoundSummary]) -> Table:
    table = Table(title="rounds (95% intervals)", title_justify="left")
    for name in ("round", "learnt", "not rejected", "threshold", "acceptance", "failures among accepted"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            str(one.number),
            f"{one.adversarial:,}",
            f"{one.not_rejected:,}",
            f"{one.threshold:.3g}",
            _interval(one.acceptance),
            _interval(one.accepted_failures),
        )
    return table


def _costs_table(found: list[RoundSummary]) -> Table:
    table = Table(title="queries per confirmed success (95% intervals)", title_justify="left")
    table.add_column("round", justify="right")
    families = list(dict.fromkeys(cost.family for one in found for cost in one.costs))
    learnt = {cost.family for one in found for cost in one.costs if cost.learnt}
    for family in families:
        table.add_column(family if family in learnt else f"{family} (held out)", justify="right")
    for one in found:
        known = {cost.family: cost for cost in one.costs}
        table.add_row(str(one.number), *(_cost(known.get(family)) for family in families))
    return table


def _cost(cost: FamilyCost | None) -> str:
    if cost is None:
        return "not measured"
    totals = cost.totals
    lines = [_interval(cost.queries), f"{totals.successes:,} of {totals.attempts:,} confirmed"]
    if totals.unconfirmed:
        lines.append(f"{totals.unconfirmed:,} without a confirming label")
    if cost.passed:
        lines.append(f"of these {cost.passed:,} passed unchanged")
    if cost.unscored:
        lines.append(f"{cost.unscored:,} could not be scored")
    if cost.ratio is not None:
        lines.append(f"x {_interval(cost.ratio)}")
    return "\n".join(lines)


def _interval(estimate: Estimate, digits: int = 3) -> str:
    low, high = estimate.rounded(digits)
    point = "unknown" if estimate.point != estimate.point else f"{estimate.point:.{digits}g}"
    return f"{point} ({low:.{digits}g} to {high:.{digits}g})"
