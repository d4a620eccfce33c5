"""Models that know their tags: write under a policy, and watch what the model thinks of a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fivenines.cli.tasks import generate_filtered
from fivenines.errors import ConfigError, sentence

if TYPE_CHECKING:
    from fivenines.conditional.decoding import TaggedGenerator
    from fivenines.conditional.watching import SegmentRisk, Unit

__all__ = ["generator_of", "register"]

_AT_ONCE = 512  # prompts held with their readings


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel="One stage at a time")(generate)
    app.command(rich_help_panel="Tags")(watch)


def generate(
    folder: Annotated[
        Path, typer.Argument(help="A task's folder, or a model that knows its tags.", metavar="DIR")
    ],
    prompts: Annotated[Path, typer.Option(help="Prompts: a line each, or JSONL.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Outputs as JSONL.", metavar="FILE")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    candidates: Annotated[
        bool, typer.Option(help="Task: keep the rejected candidates with their reasons.")
    ] = False,
    number: Annotated[
        int | None,
        typer.Option(
            "--round", min=0, help="Task: with the classifier and threshold of this round, not its own."
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Model: good, none, or a TOML file of ban, allow, force, bias.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Model: move away from the bad tags by this factor.", metavar="W")
    ] = None,
    base_top_p: Annotated[
        float, typer.Option(help="Model: guidance picks from what is likely without it.")
    ] = 1.0,
    lookahead: Annotated[
        int | None,
        typer.Option(min=1, help="Model: of so many candidates drop the riskier half.", metavar="N"),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Model: else as it was saved.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Model: else as it was saved.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Model: else as it was saved.")] = None,
    stop: Annotated[str | None, typer.Option(help="Model: sentence, newline or eos.")] = None,
) -> None:
    """Continue prompts: of a task through the filter, where only what passed comes out; of a model with its tags
    under a policy, with the risk that the model itself saw in each sentence.
    """
    sampling = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "stop": stop}
    steered = {"--policy": policy, "--guidance": guidance, "--lookahead": lookahead}
    steered |= {f"--{name.replace('_', '-')}": value for name, value in sampling.items()}
    if (folder / "task.toml").exists():
        if named := [name for name, value in steered.items() if value is not None]:
            must = "take a model's folder, not a task's"
            raise ConfigError(sentence(", ".join(named), must, str(folder), "Name the generator's folder."))
        generate_filtered(folder, prompts, out, seed, candidates, number)
        return
    if candidates or number is not None:
        raise ConfigError(sentence("--candidates and --round", "take the folder of a task", str(folder)))
    from fivenines.data.snippets import read_prompts
    from fivenines.files import write_jsonl_atomic

    generator = generator_of(folder, policy or "good", guidance, base_top_p, lookahead)
    generator = generator.with_sampling(**{k: v for k, v in sampling.items() if v is not None})
    texts = list(read_prompts(prompts))
    count = write_jsonl_atomic(out, _rows(generator, texts, seed))
    typer.echo(f"Wrote {out}: {count:,} texts by {folder}.")


def generator_of(
    folder: Path, policy: str, guidance: float | None, base_top_p: float, lookahead: int | None
) -> TaggedGenerator:
    """The model of a folder under what the options say; ``policy``: good, none, or a TOML file."""
    from fivenines.conditional.decoding import TaggedGenerator
    from fivenines.conditional.guidance import Guidance
    from fivenines.conditional.lookahead import Lookahead
    from fivenines.conditional.model import TaggedModel
    from fivenines.conditional.policy import TagPolicy
    from fivenines.conditional.watching import tags_all

    if guidance is None and base_top_p != 1.0:
        raise ConfigError(sentence("--base-top-p", "needs --guidance", base_top_p))
    model = TaggedModel.load(folder)
    relative = any(tags_all(rule) for rule in model.scheme.rules)
    chosen = {"good": None, "none": TagPolicy()}
    return TaggedGenerator(
        model,
        chosen[policy] if policy in chosen else TagPolicy.load(policy),
        guidance=None if guidance is None else Guidance(guidance, base_top_p),
        lookahead=None if lookahead is None else Lookahead(lookahead, relative=relative),
    )


def _rows(generator: TaggedGenerator, prompts: list[str], seed: int) -> Iterator[dict[str, Any]]:
    from fivenines.conditional.watching import segment_risks

    scheme = generator.model.scheme
    for start in range(0, len(prompts), _AT_ONCE):
        group = prompts[start : start + _AT_ONCE]
        streams = range(start, start + len(group))  # the same texts however many are written at once
        for prompt, text in zip(group, generator.write(group, seed=seed, streams=streams), strict=True):
            parts = segment_risks(text.watch, scheme) if scheme.bad else []
            yield {
                "prompt": prompt,
                "completion": text.text,
                "segments": [[each.start, each.end, _plain(each.risk)] for each in parts],
            }


def _plain(risk: float) -> float | None:
    return None if risk != risk else risk


def watch(
    folder: Annotated[Path, typer.Argument(help="A model that knows its tags.", metavar="MODEL")],
    texts: Annotated[list[str], typer.Argument(help="What to read; @FILE reads a file.", metavar="TEXT...")],
    unit: Annotated[str, typer.Option(help="sentence or line.")] = "sentence",
    html: Annotated[
        Path | None, typer.Option(help="Also draw the texts into a page.", metavar="FILE")
    ] = None,
) -> None:
    """How likely each sentence was to be bad, as the model saw it coming: P(bad tag) where a tag was due."""
    from fivenines.conditional.model import TaggedModel
    from fivenines.conditional.risk import watch_texts
    from fivenines.conditional.watching import segment_risks

    known: dict[str, Unit] = {"sentence": "sentence", "line": "line"}
    if unit not in known:
        raise ConfigError(sentence("--unit", "must be sentence or line", unit))
    model = TaggedModel.load(folder)
    if not model.scheme.bad:
        raise ConfigError(sentence("watch", "needs a model with a bad tag", "none"))
    read = [_text(text) for text in texts]
    parts = [segment_risks(each, model.scheme, known[unit]) for each in watch_texts(model, read)]
    for text, found in zip(read, parts, strict=True):
        _print(text, found)
    if html is not None:
        _page(html, read, parts)


def _text(argument: str) -> str:
    from fivenines.errors import DataError

    if not argument.startswith("@"):
        return argument
    try:
        return Path(argument[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(sentence(f"file {argument[1:]}", "must be readable text", str(error))) from error


def _print(text: str, parts: list[SegmentRisk]) -> None:
    import sys

    from fivenines.conditional.watching import draw_risk
    from fivenines.report.words import visible

    if sys.stdout.isatty():
        typer.echo(draw_risk(text, parts) + "\n")
    for part in parts:
        shown = " ".join(text[part.start : part.end].split())
        typer.echo(f"{part.risk:8.4f}  {visible(shown, len(shown))}")


def _page(file: Path, texts: list[str], parts: list[list[SegmentRisk]]) -> None:
    from fivenines.conditional.watching import html_risk
    from fivenines.files import atomic_file

    drawn = "".join(f"<p>{html_risk(text, found)}</p>\n" for text, found in zip(texts, parts, strict=True))
    with atomic_file(file) as handle:
        handle.write(f'<!doctype html>\n<meta charset="utf-8">\n<title>Risk</title>\n{drawn}')
    typer.echo(f"Wrote {file}.")
