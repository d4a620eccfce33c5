"""A language model from a marked corpus, with tags or without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = ["register"]

_MODEL = "The new model"
_OBJECTIVE = "The objective"


def _of(panel: str, text: str = "", **limits: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(help=text or None, rich_help_panel=panel, **limits)


_KINDS = (
    "likelihood, conditional, filtering, unlikelihood, reward_weighted, advantage_weighted, token_masked."
)
_Corpus = Annotated[
    list[str], typer.Argument(help="Marked texts (fivenines tag): files, folders.", metavar="CORPUS...")
]
_Out = Annotated[Path, typer.Argument(help="The folder of the model.", metavar="OUT")]
_Kind = Annotated[str, _of(_OBJECTIVE, _KINDS)]
_Scheme = Annotated[Path | None, _of(_OBJECTIVE, "Which tag stands where: TOML or JSON.")]
_Threshold = Annotated[float | None, _of(_OBJECTIVE, "Scores above it are bad.")]
_By = Annotated[str | None, _of(_OBJECTIVE, "Filtering by the mean or max of a document's scores.")]
_Alpha = Annotated[float | None, _of(_OBJECTIVE, "Weight of unlikelihood, or of the text beside values.")]
_Beta = Annotated[float | None, _of(_OBJECTIVE, "Temperature of rewards, in their deviations.")]
_Emphasis = Annotated[float | None, _of(_OBJECTIVE, "Weight of bad text; conditional only.")]
_Above = Annotated[float | None, _of(_OBJECTIVE, "With --emphasis: scores above it are bad, else 0.5.")]
_Hidden = Annotated[str | None, _of(_OBJECTIVE, "A token in the place of what is masked.")]
_Scorer = Annotated[str | None, _of(_OBJECTIVE, "Whose scores count; else the scheme's first.")]
_Tagged = Annotated[
    bool, typer.Option("--tagged", help="Tags with another objective too.", rich_help_panel=_OBJECTIVE)
]
_Start = Annotated[str, typer.Option(help="What to start from: scratch, a folder, a hub name.")]
_First = Annotated[
    Path | None,
    typer.Option(help="Plain likelihood first; its folder, which other runs may share.", metavar="DIR"),
]
_After = Annotated[float, typer.Option(help="With --first: for which share of the steps.")]
_Epochs = Annotated[float, typer.Option(help="How often each text is read; may be a fraction.")]
_Steps = Annotated[int | None, typer.Option(min=1, help="Instead of epochs.")]
_Tokens = Annotated[
    int | None, typer.Option(min=1, help="Instead of epochs: a budget, the same for every objective.")
]
_Batch = Annotated[int, typer.Option(min=1, help="Blocks a step.")]
_Block = Annotated[int | None, typer.Option(min=2, help="Tokens of a block; else the context.")]
_Rate = Annotated[float, typer.Option(help="The learning rate at its highest.")]
_Optimizer = Annotated[
    str | None, typer.Option(help="adamw or muon; else muon from scratch, adamw from a model.")
]
_Minutes = Annotated[float | None, typer.Option(help="At most so long, all sittings together.")]
_Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
_Held = Annotated[
    list[str] | None, typer.Option(help="Texts to measure on; else one text in fifty.", metavar="TEXTS")
]
_Architecture = Annotated[str, _of(_MODEL, "gpt2, llama or gpt_neox.")]
_Layers = Annotated[int, _of(_MODEL, min=1)]
_Width = Annotated[int, _of(_MODEL, min=1)]
_Heads = Annotated[int, _of(_MODEL, min=1)]
_Context = Annotated[int, _of(_MODEL, "In tokens.", min=2)]
_Vocabulary = Annotated[int, _of(_MODEL, "At most.", min=1)]
_Tokenizer = Annotated[str, _of(_MODEL, "bpe, word, or lines for code.")]
_Seed = Annotated[int, typer.Option(min=0)]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel="Tags")(pretrain)


def pretrain(
    corpus: _Corpus,
    out: _Out,
    objective: _Kind = "conditional",
    scheme: _Scheme = None,
    threshold: _Threshold = None,
    by: _By = None,
    alpha: _Alpha = None,
    beta: _Beta = None,
    emphasis: _Emphasis = None,
    above: _Above = None,
    hidden: _Hidden = None,
    scorer: _Scorer = None,
    tagged: _Tagged = False,
    model: _Start = "scratch",
    first: _First = None,
    after: _After = 0.5,
    epochs: _Epochs = 1.0,
    steps: _Steps = None,
    tokens: _Tokens = None,
    batch_size: _Batch = 16,
    block: _Block = None,
    learning_rate: _Rate = 1e-3,
    optimizer: _Optimizer = None,
    minutes: _Minutes = None,
    precision: _Precision = "auto",
    held_out: _Held = None,
    architecture: _Architecture = "llama",
    layers: _Layers = 4,
    width: _Width = 256,
    heads: _Heads = 4,
    context: _Context = 256,
    vocabulary: _Vocabulary = 8000,
    tokenizer: _Tokenizer = "bpe",
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train a language model on a marked corpus: with tags for what is good and bad, or by another objective.

    Says first what it will read. A run that was stopped goes on when the same command is given again.
    """
    from fivenines.conditional.objectives import objective_from_dict
    from fivenines.conditional.pretraining import PretrainSettings, read_scheme
    from fivenines.conditional.training import Arm, First
    from fivenines.models.causal import LanguageModelConfig
    from fivenines.models.training_config import TrainingConfig

    asked: dict[str, Any] = {"threshold": threshold, "by": by, "alpha": alpha, "beta": beta}
    asked |= {
        "emphasis": emphasis,
        "above": above,
        "hidden": hidden,
        "scorer": scorer,
        "tagged": tagged or None,
    }
    row = {name: value for name, value in asked.items() if value is not None}
    shape: dict[str, Any] = {"architecture": architecture, "layers": layers, "width": width, "heads": heads}
    shape |= {"context": context, "vocabulary": vocabulary, "tokenizer": tokenizer, "seed": seed}
    training: dict[str, Any] = {"epochs": epochs, "max_steps": steps, "max_minutes": minutes, "seed": seed}
    training |= {"learning_rate": learning_rate, "batch_size": batch_size, "precision": precision}
    training |= {"optimizer": optimizer or ("muon" if model == "scratch" else "adamw")}
    training |= {"warmup": 0.03, "decay": "cosine", "weight_decay": 0.1, "beta2": 0.95}
    settings = PretrainSettings(
        Arm(objective_from_dict({"kind": objective} | row), TrainingConfig(**training), block),
        scheme=None if scheme is None else read_scheme(scheme),
        model=LanguageModelConfig(**shape) if model == "scratch" else model,
        first=None if first is None else First(first, after),
        tokens=tokens,
    )
    _run(settings, corpus, out, held_out, quiet)


def _run(settings: Any, corpus: list[str], out: Path, held_out: list[str] | None, quiet: bool) -> None:
    from fivenines.conditional.pretraining import hold_out, pretrain
    from fivenines.conditional.tagging.reading import read_marked

    console = Console()
    texts = list(read_marked(corpus))
    if held_out:
        kept = list(read_marked(held_out))
    else:
        texts, kept = hold_out(texts, 0.02, settings.arm.training.seed)
    done = pretrain(
        texts,
        out,
        settings,
        held_out=kept,
        progress=not quiet and console.is_terminal,
        say=lambda line: None if quiet else console.print(f"[dim]{line}[/dim]"),
    )
    result = done.fitted.result
    typer.echo(
        f"Wrote {out}: {result.steps:,} steps, {result.epochs:.2f} epochs, {result.seconds / 60:.1f} minutes."
    )
    for given, nats in done.held_out.items():
        context = {"good": "with good tags given", "none": "without tags", "own": "with its own tags"}[given]
        typer.echo(
            f"Text held out, {context}: {nats.per_token:.3f} nats a token, {nats.per_word:.3f} a word "
            f"({int(nats.tokens.sum()):,} tokens)."
        )
