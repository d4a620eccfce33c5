"""Commands on a task's folder: from an empty folder to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fivenines.errors import ConfigError, sentence
from fivenines.task import Task

__all__ = ["register"]

Folder = Annotated[Path, typer.Argument(help="The task's folder, with task.toml.", metavar="DIR")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, no lines on steps.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file, in the order in which they are used."""
    build, inspect = "From a behavior to a filtered generator", "One stage at a time"
    app.command(rich_help_panel=build)(demo)
    app.command(rich_help_panel=build)(init)
    app.command(rich_help_panel=build)(run)
    app.command(rich_help_panel=build)(status)
    for command in (train_generator, train_classifier, threshold, score, evaluate, report):
        app.command(rich_help_panel=inspect)(command)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to work; made if absent.", metavar="DIR")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    quiet: Quiet = False,
) -> None:
    """The whole path on storyworld, a small story language whose truth is known. Minutes; resumes when run again."""
    from fivenines.demo import write_demo

    _run(write_demo(folder, seed), "report", quiet)


def init(folder: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")]) -> None:
    """Start a task: a commented task.toml, guidelines and example prompts."""
    task = Task.init(folder)
    typer.echo(
        f"Wrote {task.folder}/task.toml, guidelines.md and prompts.txt. Edit them, then: fivenines run {folder}"
    )


def run(
    folder: Folder,
    until: Annotated[str, typer.Option(help="The last step to take.")] = "report",
    quiet: Quiet = False,
) -> None:
    """Take every step that is not done, up to the report; stop where people's labels are missing.

    A run that was stopped or killed goes on where it was. Exit code 3: waiting for labels.
    """
    _run(Task.load(folder), until, quiet)


def status(folder: Folder) -> None:
    """What is done, what is next, and which labels are missing."""
    from fivenines.cli.tables import print_status
    from fivenines.pipeline.status import status_of

    print_status(Console(), status_of(Task.load(folder)))


def train_generator(folder: Folder, quiet: Quiet = False) -> None:
    """Prepare the data and train the generator, or see that the one named loads."""
    _run(Task.load(folder), "generator", quiet)


def train_classifier(folder: Folder, quiet: Quiet = False) -> None:
    """Draw completions, take their labels and train the classifier."""
    _run(Task.load(folder), "classifier", quiet)


def threshold(folder: Folder, quiet: Quiet = False) -> None:
    """Choose the threshold on labelled completions that the classifier has not seen."""
    _run(Task.load(folder), "threshold", quiet)


def score(
    source: Annotated[Path, typer.Argument(help="JSONL of snippets: prompt and completion.", metavar="IN")],
    target: Annotated[Path, typer.Argument(help="The same lines with a score.", metavar="OUT")],
    task: Annotated[
        Path | None, typer.Option(help="Take the classifier of this task.", metavar="DIR")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A classifier: a folder, or a name on the hub. Of several, also how far they differ."
        ),
    ] = None,
) -> None:
    """Give each snippet of a file its P(failure); null where it cannot be scored."""
    from fivenines.pipeline.serving import score_file

    if task is None and not model:
        raise ConfigError(sentence("score", "needs --task or --model", "neither", "Name a classifier."))
    counted = score_file(source, target, task=None if task is None else Task.load(task), models=model or [])
    typer.echo(f"Wrote {target}: {counted.scored:,} scored, {counted.unscored:,} that could not be.")


def generate_filtered(
    folder: Path, prompts: Path, out: Path, seed: int, candidates: bool, number: int | None
) -> None:
    """What ``fivenines generate`` does with a task: only what the classifier passed comes out, else null."""
    from fivenines.cli.tables import print_cost
    from fivenines.pipeline.serving import deployed, generate_file
    from fivenines.rounds.folders import deployed_by

    which = deployed if number is None else deployed_by(number)
    stats = generate_file(Task.load(folder), prompts, out, seed=seed, candidates=candidates, which=which)
    print_cost(Console(), stats)


def evaluate(folder: Folder, quiet: Quiet = False) -> None:
    """Measure failure rates with and without the filter, quality and cost."""
    _run(Task.load(folder), "evaluation", quiet)


def report(folder: Folder, quiet: Quiet = False) -> None:
    """Write the report: one HTML file, and the same as JSON."""
    _run(Task.load(folder), "report", quiet)


def _run(task: Task, until: str, quiet: bool) -> None:
    from fivenines.cli.tables import print_outcome, print_waiting
    from fivenines.pipeline.run import run as run_steps
    from fivenines.pipeline.workspace import STEPS

    if until not in STEPS:
        raise ConfigError(sentence("--until", f"must be one of {', '.join(STEPS)}", until))
    console = Console()
    done = run_steps(
        task,
        until=until,
        progress=not quiet and console.is_terminal,
        say=lambda line: None if quiet else console.print(f"[dim]{line} ...[/dim]"),
    )
    if done.waiting:
        print_waiting(console, task, done.waiting)
        raise typer.Exit(3)
    print_outcome(console, task, until, done.taken)
