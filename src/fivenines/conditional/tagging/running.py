"""A whole run: a corpus in, the same corpus marked out, in shards, resumable after a kill.

OUT/part-00000.jsonl ...   the shards; sorted by name, the documents are in their order
OUT/manifest.json          what was done, written last
OUT/_work/                 the plan, which shards are done, their reports; may be deleted once there is a manifest
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from fivenines import errors
from fivenines.conditional.tagging.manifest import merge_reports
from fivenines.conditional.tagging.places import Piece, expand, fingerprint, plan_shards
from fivenines.conditional.tagging.reading import BadRows, Columns, read_piece
from fivenines.conditional.tagging.scorers import SpanScorer, marks_by
from fivenines.conditional.tagging.spans import SpannedText, Unit, check_unit, segments
from fivenines.conditional.tagging.submitting import check_no_jobs, submit
from fivenines.conditional.tagging.writing import Format, check_format, shard_file, sweep
from fivenines.errors import ConfigError, DataError, FiveninesError, sentence
from fivenines.files import read_json, write_json_atomic
from fivenines.stats.checks import number
from fivenines.store.lock import TaskLock

__all__ = ["Forecast", "Run", "TaggingSettings", "Workers", "forecast", "start", "tag_corpus"]

_PLAN = "plan.json"
_TRIED_TEXTS, _TRIED_SEGMENTS = 16, 256  # that a forecast scores


@dataclass(frozen=True)
class TaggingSettings:
    """How a corpus is read, cut and written. Checked when made; raises ConfigError.

    ``shard_mb``: 2^20 bytes of a shard, which is what a kill may cost each worker; 8 of English are some 60,000
    sentences. ``at_once``: segments scored together. ``bad`` "skip" leaves out and counts broken lines, up to
    ``max_bad`` of them; it and the size of batches do not make another run of it.
    """

    segments: Unit = "sentences"
    language: str = "en"
    columns: Columns = field(default_factory=Columns)
    form: Format = "jsonl"
    shard_mb: float = 8.0
    at_once: int = 8192
    bad: Literal["stop", "skip"] = "stop"
    max_bad: int = 100

    def __post_init__(self) -> None:
        check_unit(self.segments)
        check_format(self.form)
        BadRows(self.bad, self.max_bad)
        if not number(self.shard_mb, "shard_mb") > 0:
            raise ConfigError(sentence("shard_mb", "must be greater than 0", self.shard_mb))
        if self.at_once < 1:
            raise ConfigError(sentence("at_once", "must be at least 1", self.at_once))

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one before."""
        free = ("at_once", "bad", "max_bad")
        return {key: value for key, value in asdict(self).items() if key not in free}


@dataclass(frozen=True)
class Workers:
    """Who does it: ``where`` "here", "ray" or "slurm"; how many shards at a time, with how many ``threads`` each.

    None: as many threads as there are cores for each worker. ``options`` go to datatrove's executor (for Slurm at least
    time and partition).
    """

    count: int = 1
    where: str = "here"
    threads: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("count", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    sentence("workers" if name == "count" else name, "must be at least 1", value)
                )

    @property
    def threads_each(self) -> int:
        """Threads of one worker."""
        return max(1, (os.cpu_count() or 1) // self.count) if self.threads is None else self.threads


@dataclass(frozen=True)
class Forecast:
    """What is still to be done, and what it will cost. ``rate``: segments per second and worker; NaN: not tried."""

    files: int
    shards: int
    shards_left: int
    megabytes_left: float
    segments_left: int
    rate: float

    def seconds(self, workers: int) -> float:
        """On the wall, if the rest of the corpus is like its start and workers do not get in each other's way."""
        return self.segments_left / (self.rate * workers) if self.rate > 0 else math.nan


@dataclass(frozen=True)
class Run:
    """A run that was planned. Made by :func:`start`."""

    out: Path
    scorers: tuple[SpanScorer, ...]
    settings: TaggingSettings
    shards: int
    sizes: tuple[int, ...]  # of the shards, in bytes

    @property
    def work(self) -> Path:
        """Where it keeps its state."""
        return self.out / "_work"

    @property
    def done(self) -> list[int]:
        """The shards that are whole: marked as done, and their files there."""
        folder = self.work / "completions"
        marked = [int(path.name) for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(rank for rank in marked if shard_file(self.out, rank, self.settings.form).is_file())

    @property
    def bytes_done(self) -> int:
        """About how much of the corpus is done, shards that are under way included."""
        whole = set(self.done)
        under_way = 0
        for path in (self.work / "notes").glob("*.done"):
            if int(path.stem) not in whole:
                text = path.read_text(encoding="utf-8")
                under_way += min(int(text or 0), self.sizes[int(path.stem)])
        return sum(self.sizes[rank] for rank in whole) + under_way


def start(
    inputs: Sequence[str | Path],
    out: str | Path,
    scorers: Sequence[SpanScorer],
    settings: TaggingSettings | None = None,
) -> Run:
    """Plan a run, or take up the one that stands in ``out``. Nothing is scored yet.

    Raises DataError for inputs that are not there or cannot be unpacked, ConfigError for a folder that holds something
    else, or no scorer, LockedError where another process begins a run there.
    """
    settings = TaggingSettings() if settings is None else settings
    out = Path(out).absolute()
    names = [scorer.name for scorer in scorers]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            sentence("scorers", "must be one or more, each with its own name", ", ".join(names))
        )
    files = [file for file in expand(inputs) if not file.is_relative_to(out)]
    if not files:
        raise DataError(sentence("IN", "must hold a file that is not in OUT", "none"))
    identity = {
        "inputs": fingerprint(files),
        "scorers": [[scorer.name, scorer.version] for scorer in scorers],
        "settings": settings.identity,
    }
    place = out / "_work" / _PLAN
    if not place.is_file():
        _check_new(out)
        shards = plan_shards(files, int(settings.shard_mb * 2**20))
        made = {"identity": identity, "shards": [[piece.to_dict() for piece in shard] for shard in shards]}
        with TaskLock(place.parent):
            if not place.is_file():  # else another process was faster, and its plan holds
                write_json_atomic(place, made)
    plan = read_json(place)
    _check_same(out, plan["identity"], identity)
    sizes = tuple(sum(piece["size"] for piece in shard) for shard in plan["shards"])
    return Run(out, tuple(scorers), settings, len(sizes), sizes)


def forecast(run: Run, *, try_it: bool = True) -> Forecast:
    """What a run will cost, from the first texts of the corpus. ``try_it`` scores some of them, to learn the rate."""
    left = sorted(set(range(run.shards)) - set(run.done))
    left_bytes = sum(run.sizes[rank] for rank in left)
    files = len(read_json(run.work / _PLAN)["identity"]["inputs"])
    first = list(islice(_first_texts(run, left), _TRIED_TEXTS)) if left else []
    texts = [text for text, _ in first]
    held, count = sum(size for _, size in first), sum(len(text.spans) for text in texts)
    rate = math.nan
    if try_it and count:
        few = _first_segments(texts)
        _let_all_mark(run.scorers, few)  # the first time loads the model
        begin = time.perf_counter()
        _let_all_mark(run.scorers, few)
        rate = sum(len(text.asked) for text in few) / max(1e-9, time.perf_counter() - begin)
    segments_left = round(left_bytes * count / held) if held else 0
    return Forecast(files, run.shards, len(left), left_bytes / 2**20, segments_left, rate)


def _let_all_mark(scorers: Sequence[SpanScorer], texts: Sequence[SpannedText]) -> None:
    """Let all scorers mark the texts, for the time it takes."""
    for scorer in scorers:
        marks_by(scorer, texts)


def _first_texts(run: Run, ranks: Sequence[int]) -> Iterator[tuple[SpannedText, int]]:
    """Texts, each with about the bytes that it takes in its file."""
    how, bad = run.settings, BadRows("skip", most=1 << 30)
    for row in read_json(run.work / _PLAN)["shards"][ranks[0]]:
        piece = Piece(**row)
        for marked in read_piece(piece, how.columns, bad):
            size = len(marked.text.encode())
            if piece.kind == "rows":
                rest = {"text": "", "id": marked.id, **marked.meta}
                size += len(
                    json.dumps(
                        rest | ({"marks": marked.to_row()["marks"]} if marked.marks else {}), default=str
                    )
                )
            cut = segments(marked.text, how.segments, language=how.language)
            yield SpannedText(marked.text, cut, how.segments, how.language, marked.id, marked.meta), size


def _first_segments(texts: Sequence[SpannedText]) -> list[SpannedText]:
    few: list[SpannedText] = []
    left = _TRIED_SEGMENTS
    for text in texts:
        if left <= 0:
            break
        wanted = tuple(i < left for i in range(len(text.spans)))
        few.append(SpannedText(text.text, text.spans, text.unit, text.language, text.id, text.meta, wanted))
        left -= len(text.spans)
    return few


def tag_corpus(run: Run, workers: Workers | None = None) -> dict[str, Any] | None:
    """Do what is missing, and return the manifest; None where jobs were only submitted (Slurm).

    A shard that was killed is done again from its start; one that is whole is never touched. The same inputs, scorers
    and settings give the same files, however often it was killed.

    Raises DataError for broken lines, ModelError or ScoringError for scorers that cannot go on, ResourceError for a
    machine that cannot, LockedError where the same run is under way (jobs of Slurm count as under way until all shards
    are done or their file in ``_work`` is deleted), ConfigError without the extra ``corpora``.
    """
    workers = Workers() if workers is None else workers
    blocks, executors = _library("blocks"), _library("executors")
    slurm = workers.where == "slurm"
    with TaskLock(run.work):
        check_no_jobs(run.work, run.shards - len(run.done))
        if not slurm:  # a job that somebody took for ended may still write
            sweep(run.out)
        _forget_undone(run)
        notes, reports, settings = run.work / "notes", run.work / "reports", run.settings
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        steps = [
            blocks.ReadShard(
                run.work / _PLAN, settings.columns, BadRows(settings.bad, settings.max_bad), reports
            ),
            blocks.MarkSpans(
                run.scorers,
                settings.segments,
                language=settings.language,
                at_once=settings.at_once,
                reports=reports,
            ),
            blocks.WriteShard(run.out, settings.form, notes),
        ]
        executor = executors.make_executor(
            workers.where,
            steps,
            run.shards,
            run.work,
            workers=workers.count,
            threads=workers.threads_each,
            options=workers.options,
        )
        if slurm:
            submit(executor, run.work)
        else:
            executor.run()
        _raise_failures(notes)
        left = run.shards - len(run.done)
        if left and slurm:
            return None
        if left:
            then = f"See {run.work / 'logs'}, and run again: what is marked is kept."
            raise errors.ResourceError(sentence("all shards", "must be done", f"{left} that are not", then))
        return _manifest(run)


def _forget_undone(run: Run) -> None:
    """A shard counts as done while its file is there: who deletes one wants it made again."""
    completions = run.work / "completions"
    whole = set(run.done)
    for path in list(completions.iterdir()) if completions.is_dir() else []:
        if int(path.name) not in whole:
            path.unlink()


def _raise_failures(notes: Path) -> None:
    """What went wrong elsewhere, as the error that it was."""
    for path in sorted(notes.glob("*.failed.json")):
        failed = read_json(path)
        kind = getattr(errors, failed["error"], None)
        if isinstance(kind, type) and issubclass(kind, FiveninesError):
            raise kind(failed["message"])
        raise FiveninesError(f"shard {path.name.split('.')[0]}: {failed['error']}: {failed['message']}")


def _manifest(run: Run) -> dict[str, Any]:
    plan = read_json(run.work / _PLAN)
    found = {
        "format": 1,
        **plan["identity"],
        "scorers": [
            {**getattr(scorer, "describe", dict)(), "name": scorer.name, "version": scorer.version}
            for scorer in run.scorers
        ],
        "shards": [shard_file(run.out, rank, run.settings.form).name for rank in range(run.shards)],
        **merge_reports(run.work / "reports", run.shards, run.settings.max_bad),
    }
    write_json_atomic(run.out / "manifest.json", found)
    check_no_jobs(run.work, 0)  # they are done
    return found


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for what in ("inputs", "scorers", "settings"):
        if before.get(what) != now[what]:
            then = "Give another folder, or delete this one."
            must = f"must be new, or hold the same run: its {what} were others"
            raise ConfigError(sentence(f"OUT {out}", must, _differences(before.get(what), now[what]), then))


def _differences(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = {key: (before.get(key), now.get(key)) for key in sorted({*before, *now})}
        return ", ".join(f"{key} {b!r} then and {n!r} now" for key, (b, n) in pairs.items() if b != n)
    was, wants = (
        [each for each in side if each not in other] for side, other in ((before, now), (now, before))
    )
    return f"{was or 'nothing'} then and {wants or 'nothing'} now"


def _check_new(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(map(_others, out.iterdir()))):
        then = "Give another folder."
        raise ConfigError(
            sentence(f"OUT {out}", "must be a new folder, or one of a run before", "others", then)
        )


def _others(path: Path) -> bool:
    """Not hidden, and not what a run leaves that was killed before it had a plan."""
    return path.name[0] != "." and path.name != "_work"


def _library(module: str) -> Any:
    """The modules that need datatrove, loaded late: it is an extra, and takes a second."""
    try:
        return importlib.import_module(f"fivenines.conditional.tagging.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("datatrove", "loguru", "multiprocess", "dill", "fsspec"):
            raise
        then = "Run: pip install 'fivenines[corpora]'."
        raise ConfigError(
            sentence("datatrove", "must be installed", f"no package {error.name}", then)
        ) from None
