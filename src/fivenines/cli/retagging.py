"""A model that tags held-out text itself, and how that agrees with the marks it learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fivenines.errors import ConfigError, DataError, sentence

if TYPE_CHECKING:
    from fivenines.conditional.marks import MarkedText
    from fivenines.conditional.retagging_report import PromptChange, Retagging
    from fivenines.stats import Estimate

__all__ = ["register", "report_rows"]

_DONE = "retagging.json"  # written last: it marks a folder that is whole
_FILES = (_DONE, "retagging.md", "retagged.jsonl", "differ.jsonl")


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel="Tags")(retag)


def retag(
    folder: Annotated[Path, typer.Argument(help="A model that knows its tags.", metavar="MODEL")],
    corpus: Annotated[
        list[str],
        typer.Argument(help="Held-out marked text: folders, files (fivenines tag).", metavar="CORPUS..."),
    ],
    out: Annotated[Path, typer.Option(help="A new folder for what is found.", metavar="DIR")],
    rule: Annotated[
        int | None, typer.Option(min=0, help="Of the scheme, from 0; else the first that can be bad.")
    ] = None,
    given: Annotated[
        str, typer.Option(help="Tags seen before a sentence: none, own (of the marks) or predicted.")
    ] = "none",
    prompt: Annotated[
        str, typer.Option(help="Put before every document; also says what it changes.", metavar="TEXT")
    ] = "",
    inline: Annotated[str, typer.Option(help="mean or max over the words, for inline tags.")] = "mean",
    name: Annotated[str, typer.Option(help="Of the model's marks in retagged.jsonl.")] = "model",
    documents: Annotated[
        int, typer.Option(min=1, help="So many at most, drawn at random from the corpus.")
    ] = 2000,
    most: Annotated[int, typer.Option(min=0, help="Sentences where the two differ most, both ways.")] = 50,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the documents drawn, and of intervals.")] = 0,
) -> None:
    """Let a model tag held-out text itself, and compare with the marks it learnt from.

    DIR gets retagging.json and .md (what is printed), retagged.jsonl (the corpus with the model's marks besides) and
    differ.jsonl (what people should look at: fivenines sample DIR/differ.jsonl BATCH). A run that was stopped is
    begun anew by the same command.
    """
    from fivenines.conditional.model import TaggedModel
    from fivenines.conditional.retagging import Retagger
    from fivenines.conditional.retagging_report import compare_marks, differing, prompt_change
    from fivenines.conditional.tagging.reading import read_marked
    from fivenines.conditional.tagging.scorers import folder_version, settings_version
    from fivenines.stats.checks import check_level

    check_level(level)
    if (out / _DONE).exists():
        raise ConfigError(
            sentence("--out", "must hold no earlier retagging", str(out / _DONE), "Name another.")
        )
    model = TaggedModel.load(folder)
    if not name.strip() or name in model.scheme.scorers:
        must = f"must be a name that is none of its scorers' ({', '.join(model.scheme.scorers)})"
        raise ConfigError(sentence("--name", must, repr(name)))
    # the options are checked by the retagger
    reader = Retagger(model, rule, given=given, prefix=prompt, overall=inline)  # type: ignore[arg-type]
    texts, held = _drawn(read_marked(corpus), documents, seed)
    if not texts:
        raise DataError(
            sentence("the corpus", "must hold a marked text", "none", "Give what fivenines tag wrote.")
        )
    read = reader.read(texts)
    found, change = compare_marks(read, reader.rule, level=level, seed=seed), None
    if prompt:
        plain = Retagger(model, rule, given=given, overall=inline)  # type: ignore[arg-type]
        change = prompt_change(plain.read(texts), read, reader.rule, prompt, level=level)
    number = model.scheme.rules.index(reader.rule)
    settings = {"rule": number, "given": given, "prompt": reader.prefix, "inline": inline}
    version = settings_version(f"retag {folder_version(folder)}", settings)
    marked = [each.marked(name, version) for each in read]
    rows = differing(read, reader.rule, most)
    drawn = {"read": len(texts), "of": held, "seed": seed}
    story = {"model": str(folder), "version": version, **settings, "documents": drawn}
    _write(out, story, (found, change), marked, rows)
    _print(found, change)
    if held > len(texts):
        typer.echo(f"Read {len(texts):,} of {held:,} documents, drawn at random (seed {seed}).")
    typer.echo(
        f"Wrote {', '.join(_FILES)} to {out}. Next: fivenines sample {out / 'differ.jsonl'} BATCH --labels 50"
    )


def _drawn(texts: Iterable[MarkedText], most: int, seed: int) -> tuple[list[MarkedText], int]:
    """``most`` of the texts at random, in their order, and how many there were; no more than ``most`` in memory.

    Vitter's algorithm R: the k-th text is taken with probability ``most`` / k, in place of one taken before.
    """
    import numpy as np

    rng, count = np.random.default_rng(seed), 0
    kept: list[tuple[int, MarkedText]] = []
    for text in texts:
        count += 1
        if len(kept) < most:
            kept.append((count, text))
        elif (place := int(rng.integers(count))) < most:
            kept[place] = (count, text)
    return [text for _, text in sorted(kept, key=lambda each: each[0])], count


def report_rows(found: Retagging, change: PromptChange | None = None) -> list[tuple[str, str]]:
    """What is printed, a name and its value a line."""
    rows = [
        ("sentences compared", f"{found.spans:,} of {found.documents:,} documents"),
        (f"bad by {found.scorer}", f"{found.bad:,}"),
        ("left out", f"{found.unscored:,} without a score, {found.unread:,} that could not be read"),
    ]
    for same in found.same:
        rows.append((f"equal marks, P(bad) > {same.threshold:.3g} ({same.chosen})", _interval(same.equal)))
        rows.append(("   Cohen's kappa", _interval(same.kappa)))
    if found.detection is None:
        rows.append(("AUROC", "not measured: it takes bad and good sentences of two documents each"))
    else:
        rows.append(("AUROC", _interval(found.detection.auroc)))
        rows.append(("average precision", _interval(found.detection.average_precision)))
        rows.append(("calibration error", _interval(found.detection.calibration_error)))
    for each in found.calibration.bins:
        rows.append((f"bad marks where P(bad) is about {each.score:.2g}", _interval(each.rate)))
    confusion = found.confusion
    for name, counts, share in zip(confusion.bands, confusion.counts, confusion.found, strict=True):
        taken = ", ".join(f"{count:,} {band}" for band, count in zip(confusion.bands, counts, strict=True))
        rows.append((f"{name} by {found.scorer}, called so", f"{_interval(share)}: {taken}"))
    if change is not None:
        for moved in (change.change, change.of_bad, change.of_good, change.called_bad):
            rows.append((f"by the prompt: {moved.what}", _interval(moved)))
    return rows


def _interval(estimate: Estimate) -> str:
    from fivenines.cli.tables import interval

    return interval(estimate.to_dict(), 3)


def _write(
    out: Path,
    settings: dict[str, object],
    found: tuple[Retagging, PromptChange | None],
    marked: Sequence[MarkedText],
    rows: Sequence[dict[str, object]],
) -> None:
    from fivenines.files import atomic_file, resource_errors, write_json_atomic, write_jsonl_atomic

    with resource_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    report, change = found
    held = {"report": report.to_dict(), "change": None if change is None else change.to_dict()}
    lines = [f"| {_cell(name)} | {_cell(value)} |\n" for name, value in report_rows(report, change)]
    level = report.same[0].equal.level
    with atomic_file(out / "retagging.md") as handle:
        handle.write(f"| {_title(level)} | |\n|---|---|\n{''.join(lines)}")
    write_jsonl_atomic(out / "retagged.jsonl", (text.to_row() for text in marked))
    write_jsonl_atomic(out / "differ.jsonl", rows)
    write_json_atomic(out / _DONE, {"settings": settings, **held})


def _title(level: float) -> str:
    """Kappa and what ranks pool the sentences; their documents are drawn or left out whole."""
    return f"{level:g} intervals by document; in shares and changes every document counts once"


def _cell(text: str) -> str:
    """Text in Markdown's table: its bars and its tags are no markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _print(found: Retagging, change: PromptChange | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("what", "found", title=_title(found.same[0].equal.level))
    for name, value in report_rows(found, change):
        table.add_row(escape(name), escape(value))
    Console().print(table)
