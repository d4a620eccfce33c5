"""What to label next, and what such labels say: two commands on files, without a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fivenines.errors import ConfigError, DataError, sentence

__all__ = ["register"]

Level = Annotated[float, typer.Option(help="Of the interval.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (sample, rate):
        app.command(rich_help_panel="What it takes")(command)


def sample(
    scored: Annotated[Path, typer.Argument(help="JSONL with scores (fivenines score).", metavar="IN")],
    batch: Annotated[Path, typer.Argument(help="The lines to label, as JSONL.", metavar="OUT")],
    labels: Annotated[int, typer.Option(min=1, help="How many, to be expected.")],
    design: Annotated[str, typer.Option(help="active, uniform, near, next or stratified.")] = "active",
    accepted_below: Annotated[
        float | None, typer.Option(help="Only texts that this threshold accepts.", metavar="SCORE")
    ] = None,
    near: Annotated[
        float | None, typer.Option(help="For near and next, another threshold.", metavar="SCORE")
    ] = None,
    uniform: Annotated[float, typer.Option(help="Share of the labels that looks everywhere.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Choose what to label next, so that the labels give a rate: every line's chance is kept beside OUT.

    Fill in "failure": true or false in every line of OUT, then: fivenines rate OUT.
    """
    from fivenines.evaluate.batches import choose_batch
    from fivenines.files import read_jsonl, write_json_atomic, write_jsonl_atomic

    for path in (batch, _beside(batch)):
        if path.exists():  # somebody's answers may be in it
            raise ConfigError(sentence("OUT", "must be a new file", str(path), "Give another name."))
    numbered = list(read_jsonl(scored))
    choice, chosen = choose_batch(
        [row for _, row in numbered],
        labels,
        design,
        accepted_below=accepted_below,
        near=near,
        uniform=uniform,
        seed=seed,
        numbers=[number for number, _ in numbered],
    )
    write_json_atomic(_beside(batch), choice.to_dict())
    write_jsonl_atomic(batch, chosen)
    typer.echo(
        f"Wrote {len(chosen):,} of {choice.lines.size:,} lines to {batch}, and how they were chosen to "
        f"{_beside(batch)}. "
        f'Fill in "failure" in every line, then: fivenines rate {batch}'
    )


def rate(
    batch: Annotated[Path, typer.Argument(help="The lines of fivenines sample, with failure filled in.")],
    level: Level = 0.95,
) -> None:
    """The failure rate that the labels of a chosen batch give, with what each number rests on."""
    from fivenines.evaluate.batches import Choice, rates_of_batch
    from fivenines.files import read_json, read_jsonl
    from fivenines.stats.estimate import percent_text

    beside = _beside(batch)
    if not beside.is_file():
        then = "Keep it with the batch: without the chances there is no rate."
        raise DataError(sentence(str(beside), "must lie beside the batch", "no such file", then))
    choice = Choice.from_dict(read_json(beside))
    found = rates_of_batch([row for _, row in read_jsonl(batch)], choice, level)
    for estimate in found:
        typer.echo(str(estimate))
    if len(found) > 1:
        typer.echo(
            "Report the first, unless another was chosen before the labels were seen: the best-looking of "
            f"{len(found)} intervals no longer holds at {percent_text(level)}%."
        )


def _beside(batch: Path) -> Path:
    return batch.with_name(f"{batch.name}.design.json")
