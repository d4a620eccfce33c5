"""A tagged model under a policy made into a plain one that has no tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fivenines.cli.tagged import generator_of

if TYPE_CHECKING:
    from fivenines.conditional.locking import Locked

__all__ = ["register"]

_Model = Annotated[Path, typer.Argument(help="A model that knows its tags.", metavar="MODEL")]
_Out = Annotated[Path, typer.Argument(help="The folder of the locked model.", metavar="OUT")]
_Prompts = Annotated[Path, typer.Option(help="Prompts: a line each, or JSONL.", metavar="FILE")]
_Texts = Annotated[
    list[str] | None, typer.Option(help="Texts to learn besides, behind good tags.", metavar="TEXTS")
]
_Policy = Annotated[str, typer.Option(help="good, or a TOML file of ban, allow, force, bias.")]
_Guidance = Annotated[
    float | None, typer.Option(help="Lock in a move away from the bad tags too.", metavar="W")
]
_BaseTopP = Annotated[float, typer.Option(help="Guidance picks from what is likely without it.")]
_Lookahead = Annotated[
    int | None, typer.Option(min=1, help="Drop the riskier half of N candidates; needs --learn samples.")
]
_Learn = Annotated[str, typer.Option(help="The teacher's distribution at each token, or its samples alone.")]
_Draws = Annotated[int, typer.Option(min=1, help="Texts that are written behind each prompt.")]
_Length = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a text at most; else as the model was saved.")
]
_Epochs = Annotated[float, typer.Option(help="How often each text is read; may be a fraction.")]
_Steps = Annotated[int | None, typer.Option(min=1, help="Instead of epochs.")]
_Batch = Annotated[int, typer.Option(min=1, help="Texts a step.")]
_Rate = Annotated[float, typer.Option(help="The learning rate at its highest.")]
_Minutes = Annotated[float | None, typer.Option(help="At most so long, all sittings together.")]
_Seed = Annotated[int, typer.Option(min=0)]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(name="lock", rich_help_panel="Tags")(lock)


def lock(
    model: _Model,
    out: _Out,
    prompts: _Prompts,
    texts: _Texts = None,
    policy: _Policy = "good",
    guidance: _Guidance = None,
    base_top_p: _BaseTopP = 1.0,
    lookahead: _Lookahead = None,
    learn: _Learn = "distribution",
    draws: _Draws = 4,
    length: _Length = None,
    epochs: _Epochs = 3.0,
    steps: _Steps = None,
    batch_size: _Batch = 16,
    learning_rate: _Rate = 1e-4,
    minutes: _Minutes = None,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Remove the switch for good: a plain model without tags that writes as this one does under its policy.

    A run that was stopped goes on when the same command is given again.
    """
    from rich.console import Console

    from fivenines.conditional.locking import LockConfig, lock
    from fivenines.conditional.tagging.reading import read_marked
    from fivenines.data.snippets import read_prompts
    from fivenines.models.training_config import TrainingConfig

    training: dict[str, Any] = {"epochs": epochs, "max_steps": steps, "batch_size": batch_size, "seed": seed}
    training |= {"learning_rate": learning_rate, "max_minutes": minutes}
    settings: dict[str, Any] = {"learn": learn, "draws": draws, "length": length, "seed": seed}
    config = LockConfig(**settings, training=TrainingConfig(**training))
    console = Console()
    done = lock(
        generator_of(model, policy, guidance, base_top_p, lookahead),
        list(read_prompts(prompts)),
        config,
        texts=[each.text for each in read_marked(texts)] if texts else [],
        folder=out,
        progress=not quiet and console.is_terminal,
        say=lambda line: None if quiet else console.print(f"[dim]{line}[/dim]"),
    )
    _tell(done, out)


def _tell(done: Locked, out: Path) -> None:
    result = done.result
    if result.stopped == "time":
        typer.echo(f"Out of time after {result.steps:,} steps; the same command goes on in {out}.")
        return
    typer.echo(f"Wrote {out}: {result.steps:,} steps on {done.tokens:,} tokens; it has no tags.")
    if done.before is not None and done.after is not None:
        typer.echo(
            f"Prompts held out: {done.after:.4f} nats a token from the model under its policy, "
            f"{done.before:.4f} before."
        )
