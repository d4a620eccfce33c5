"""Labels by files: questions out, answers in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fivenines.cli.tasks import Folder
from fivenines.task import Task

__all__ = ["app"]

app = typer.Typer(help="Give labels: questions out, answers in.", no_args_is_help=True)
Purpose = Annotated[
    str | None,
    typer.Option(
        help="train, calibrate, unfiltered, filtered, attack, attack-measure or compare; all if left out."
    ),
]


@app.command("export")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE")],
    labeler: Annotated[
        str, typer.Option(help="Who will answer: only what this person has not answered.")
    ] = "",
    purpose: Purpose = None,
) -> None:
    """Write what waits for an answer, a line each, with the answer left empty."""
    from fivenines.pipeline.answering import export_questions

    count = export_questions(Task.load(folder), out, labeler=labeler, purpose=purpose)
    typer.echo(
        f"Wrote {count:,} questions to {out}. Fill in the answers, then: fivenines label import {folder} {out}"
    )


@app.command("import")
def import_(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="Answered lines; those without an answer are passed over.")],
    labeler: Annotated[str, typer.Option(help="Who answered, where the lines do not say.")] = "",
    add: Annotated[
        str | None,
        typer.Option(help="Take snippets that are not in the task too, for this purpose.", metavar="PURPOSE"),
    ] = None,
) -> None:
    """Keep the answers of a file: all of them or, if a line is wrong, none. Can be repeated."""
    from fivenines.pipeline.answering import import_answers

    result = import_answers(Task.load(folder), file, labeler=labeler, add=add)
    typer.echo(
        f"Kept {result.new:,} new answers; {result.known:,} were there, {result.unanswered:,} lines unanswered."
    )
