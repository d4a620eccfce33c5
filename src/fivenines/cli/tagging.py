"""Marks for a corpus: the scores that tags are made of, and how well they agree with people."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fivenines.errors import ConfigError, sentence

if TYPE_CHECKING:  # a command loads what it needs when it runs, so that --help does not
    from fivenines.conditional.tagging.running import Forecast, Run, Workers

__all__ = ["register"]

_PANEL = "Tags"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel=_PANEL)(tag)
    app.command("tag-spans", rich_help_panel=_PANEL)(tag_spans)
    app.command("tag-agreement", rich_help_panel=_PANEL)(tag_agreement)


def tag(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="JSONL, Parquet or text, also .gz or .zst; files, folders, patterns.", metavar="IN"
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder of the marked corpus.", metavar="OUT")],
    scorer: Annotated[
        list[str],
        typer.Option(
            help="[NAME=]classifier:FOLDER, regex:PATTERN, column:NAME, pycodestyle, pii or http:URL; or a TOML or "
            "JSON file of scorers, as chat and cascade need. Repeat for several.",
            metavar="SCORER",
        ),
    ],
    segments: Annotated[
        str, typer.Option(help="sentences; lines or statements, for code; document.")
    ] = "sentences",
    language: Annotated[str, typer.Option(help="Of the sentences, as in ISO 639.")] = "en",
    text_key: Annotated[str, typer.Option(help="The column of the text.", metavar="NAME")] = "text",
    id_key: Annotated[str, typer.Option(help="The column of a document's name.", metavar="NAME")] = "id",
    form: Annotated[
        str, typer.Option("--format", help="Of OUT: jsonl, jsonl.gz, jsonl.zst or parquet.")
    ] = "jsonl",
    shard_mb: Annotated[float, typer.Option(help="Size of a shard: what a kill can cost.")] = 8.0,
    workers: Annotated[int, typer.Option(min=1, help="Shards at a time.")] = 1,
    executor: Annotated[str, typer.Option(help="here, ray or slurm.")] = "here",
    executor_option: Annotated[
        list[str] | None,
        typer.Option(help="For datatrove's executor: time=2:00:00, partition=cpu.", metavar="KEY=VALUE"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each of several workers.")] = None,
    bad: Annotated[str, typer.Option(help="At a broken line: stop, or skip and count it.")] = "stop",
    max_bad: Annotated[int, typer.Option(min=0, help="So many broken lines may be skipped.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what went wrong.")] = False,
) -> None:
    """Mark a corpus: every sentence or line gets a score, in the context before it. Tags are made of scores later.

    Marks that IN has from other scorers are kept. A run that was stopped goes on when the same command is given again.
    """
    from fivenines.conditional.tagging.making import scorers_from
    from fivenines.conditional.tagging.reading import Columns
    from fivenines.conditional.tagging.running import TaggingSettings, Workers, start, tag_corpus

    settings = TaggingSettings(
        segments=segments,  # type: ignore[arg-type]  # checked there
        language=language,
        columns=Columns(text_key, id_key),
        form=form,  # type: ignore[arg-type]
        shard_mb=shard_mb,
        bad=bad,  # type: ignore[arg-type]
        max_bad=max_bad,
    )
    who = Workers(workers, executor, threads, _options(executor_option or []))
    console = Console(quiet=quiet, stderr=True)
    if dry_run and not out.exists():  # a plan would bind OUT to these inputs
        with TemporaryDirectory() as plan:
            _say_cost(console, start(inputs, Path(plan) / "out", scorers_from(scorer), settings), who)
        return
    run = start(inputs, out, scorers_from(scorer), settings)
    _say_cost(console, run, who)
    if dry_run:
        return
    with _bar(console, run):
        manifest = tag_corpus(run, who)
    if manifest is None:
        console.print(
            "Jobs are submitted. When they are done, give the same command again: it does what is missing."
        )
    elif not quiet:
        _say_done(run, manifest)


def tag_spans(
    marked: Annotated[
        list[str], typer.Argument(help="What fivenines tag wrote: its folder.", metavar="MARKED")
    ],
    out: Annotated[Path, typer.Argument(help="A line for each span, as JSONL.", metavar="OUT")],
    scorer: Annotated[str, typer.Option(help="Whose marks.", metavar="NAME")],
    share: Annotated[
        float, typer.Option(help="Of the spans; of a large corpus a small one is enough.")
    ] = 1.0,
    context: Annotated[int, typer.Option(min=0, help="Spans before it that a person is shown.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write marked spans, one a line, to choose what people shall label: fivenines sample OUT BATCH --labels 200."""
    from fivenines.conditional.tagging.agreement import spans_to_label
    from fivenines.conditional.tagging.reading import read_marked
    from fivenines.files import write_jsonl_atomic

    rows = spans_to_label(read_marked(marked), scorer, share=share, context=context, seed=seed)
    count = write_jsonl_atomic(out, rows)
    typer.echo(
        f"Wrote {count:,} spans to {out}. Next: fivenines sample {out} BATCH --labels 200 --design uniform"
    )


def tag_agreement(
    batch: Annotated[Path, typer.Argument(help="The lines of fivenines sample, with failure filled in.")],
    threshold: Annotated[
        float | None,
        typer.Option(help="Bad is what scores above it; else the best F1 on half of the labels."),
    ] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the halves.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Precision and recall of marks, from people's labels on spans (fivenines tag-spans, then fivenines sample)."""
    from fivenines.conditional.tagging.agreement import agreement
    from fivenines.files import read_json, read_jsonl

    beside = batch.with_name(f"{batch.name}.design.json")
    floor = float(read_json(beside)["floor"]) if beside.is_file() else None
    rows = [row for _, row in read_jsonl(batch)]
    found = agreement(rows, threshold=threshold, floor=floor, level=level, seed=seed)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))


def _options(pairs: list[str]) -> dict[str, Any]:
    """Numbers as numbers, all else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(sentence("--executor-option", "must be KEY=VALUE", pair))
        found[key] = int(value) if value.lstrip("-").isdigit() else value
    return found


def _say_cost(console: Console, run: Run, who: Workers) -> None:
    from fivenines.conditional.tagging.judging import asks_a_server
    from fivenines.conditional.tagging.running import forecast

    names = ", ".join(f"{scorer.name} ({scorer.version})" for scorer in run.scorers)
    console.print(f"[dim]Scorers: {names}[/dim]", highlight=False, soft_wrap=True)
    remote = any(asks_a_server(scorer) for scorer in run.scorers)
    with console.status("Looking at the corpus", spinner="dots") if console.is_terminal else _nothing():
        found = forecast(run, try_it=not remote)
    console.print(f"[dim]{_cost(found, run, who, remote)}[/dim]", highlight=False, soft_wrap=True)


def _cost(found: Forecast, run: Run, who: Workers, remote: bool) -> str:
    files = f"{found.files:,} file{'' if found.files == 1 else 's'}"
    if not found.shards_left:
        return f"{files}: all {found.shards:,} shards are done."
    unit = "documents" if run.settings.segments == "document" else run.settings.segments
    what = (
        f"{files}, {found.megabytes_left:,.1f} MB in {found.shards_left:,} of {found.shards:,} shards to do: "
    )
    what += f"about {found.segments_left:,} {unit}"
    if remote:
        return f"{what}, each a question to a server."
    if math.isnan(found.rate):
        return f"{what}."
    seconds = found.seconds(who.count if who.where != "here" else 1)
    return f"{what}, {_duration(seconds)} at {found.rate:,.0f} a second as tried here."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:,.0f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _bar(console: Console, run: Run) -> Iterator[None]:
    """Progress by what the shards note, whoever does them."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal or console.quiet:
        yield
        return
    columns = (TextColumn("marking"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(run.sizes), completed=run.bytes_done)
        with _every(0.5, lambda: progress.update(task, completed=run.bytes_done)):
            yield
        progress.update(task, completed=run.bytes_done)


@contextmanager
def _every(seconds: float, what: Callable[[], None]) -> Iterator[None]:
    end = threading.Event()

    def again() -> None:
        while not end.wait(seconds):
            what()

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _say_done(run: Run, manifest: dict[str, Any]) -> None:
    broken = manifest["broken lines"]["count"]
    skipped = f", {broken:,} broken lines left out" if broken else ""
    typer.echo(f"Wrote {run.out}: {manifest['documents']:,} documents in {run.shards:,} files{skipped}.")
    for name, found in manifest["marks"].items():
        known = found["segments"] - found["unscored"]
        positive = known - found["bands"][0]
        typer.echo(
            f"{name}: {found['segments']:,} segments, {positive:,} above 0, {found['unscored']:,} without a score"
        )
    for name, estimates in manifest["audits"].items():
        from fivenines.stats import Estimate

        for estimate in estimates:
            typer.echo(f"{name}: {Estimate.from_dict(estimate).line}")
