"""The masked language model that attacks take words from, from anybody's own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel="One stage at a time")(train_masked)


def train_masked(
    texts: Annotated[
        list[str], typer.Argument(help="Text, JSONL or Parquet; names or patterns.", metavar="TEXTS...")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the model.", metavar="DIR")],
    model: Annotated[
        str, typer.Option(help="What to start from: a folder, a hub name, minilm, or scratch.")
    ] = "minilm",
    minutes: Annotated[float | None, typer.Option(help="At most so long, all sittings together.")] = None,
    epochs: Annotated[float, typer.Option(help="How often each text is read; may be a fraction.")] = 1.0,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Texts to measure on; else one text in fifty.", metavar="TEXTS"),
    ] = None,
    freeze_layers: Annotated[
        int | None, typer.Option(min=0, help="Keep the embeddings and so many layers as they are.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Of the body; the new head's is twice that.")] = 5e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Blocks of 128 tokens a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train a masked language model, which knows what words fit a place: attacks take their words from it.

    Needs no labels. A run that was stopped goes on when the same command is given again.
    """
    from fivenines.models.training_config import TrainingConfig
    from fivenines.pipeline.masked import MaskedSettings, train_masked

    training = TrainingConfig(
        epochs=epochs,
        max_minutes=minutes,
        learning_rate=learning_rate,
        head_learning_rate=2 * learning_rate,
        batch_size=batch_size,
        seed=seed,
    )
    console = Console()
    done = train_masked(
        texts,
        out,
        MaskedSettings(model=model, freeze_layers=freeze_layers, training=training),
        held_out=held_out or (),
        progress=not quiet and console.is_terminal,
        say=lambda line: None if quiet else console.print(f"[dim]{line}[/dim]"),
    )
    steps, epochs_read = done.result.steps, done.result.epochs
    typer.echo(
        f"Wrote {out}: {steps:,} steps, {epochs_read:.2f} epochs, {done.result.seconds / 60:.1f} minutes."
    )
    if done.score is None:
        typer.echo(
            "Nothing was held out: one text alone. Give --held-out, or more texts, to see how good it is."
        )
    else:
        typer.echo(
            f"Of {done.score.tokens:,} hidden tokens in texts held out it guesses {done.score.accuracy:.1%}; "
            f"{done.score.nats:.2f} nats each."
        )
