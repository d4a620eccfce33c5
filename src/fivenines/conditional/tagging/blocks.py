"""The steps as blocks of datatrove, which also go together with its own readers, filters and writers.

    ReadShard ── Documents ──> MarkSpans ── with metadata["marks"] ──> WriteShard

A document's marks stand in its metadata under "marks"; everything else there is the text's metadata.
Only what needs datatrove imports this module (extra ``corpora``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.tagging.manifest import ShardTally
from fivenines.conditional.tagging.places import Piece
from fivenines.conditional.tagging.reading import BadRows, Columns, read_piece
from fivenines.conditional.tagging.scorers import Counting, SpanScorer, marks_by
from fivenines.conditional.tagging.spans import SpannedText, Unit, check_unit, segments
from fivenines.conditional.tagging.writing import Format, check_format, shard_file, shard_writer
from fivenines.files import read_json, write_json_atomic

__all__ = ["MarkSpans", "ReadShard", "WriteShard", "as_document", "as_marked_text"]

_TYPE = "fivenines"
_SEGMENTS = 8192  # scored together: enough that batches of like length are full, few enough to hold
_CHARACTERS = 4 << 20
_PULSE = 0.5  # seconds between two notes of how far a shard is


def as_document(marked: MarkedText) -> Document:
    """A marked text as datatrove has it."""
    return Document(text=marked.text, id=marked.id, metadata={**marked.meta, "marks": marked.marks})


def as_marked_text(document: Document) -> MarkedText:
    """The inverse; marks may also be rows, as a reader of datatrove gives them. Raises DataError for others."""
    meta = dict(document.metadata)
    marks = meta.pop("marks", None) or ()
    if all(isinstance(each, Marks) for each in marks):
        return MarkedText(document.text, document.id, tuple(marks), meta)
    row = {"text": document.text, "id": document.id, "meta": meta, "marks": marks}
    return MarkedText.from_row(row, f"document {document.id}")


class ReadShard(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """The texts of one shard of a plan (``plan``: a file that holds a list of pieces for each rank).

    Yields documents in order. At the end writes to ``reports`` what was broken.
    """

    type = _TYPE
    name = "read"

    def __init__(self, plan: Path, columns: Columns, bad: BadRows, reports: Path | None = None) -> None:
        super().__init__()
        self.plan, self.columns, self.bad, self.reports = plan, columns, bad, reports

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of shard ``rank``, after those of ``data``."""
        if data:
            yield from data
        bad = BadRows(self.bad.policy, self.bad.most)
        for row in read_json(self.plan)["shards"][rank]:
            for marked in read_piece(Piece(**row), self.columns, bad):
                yield as_document(marked)
        self.stat_update("broken lines", value=bad.count)
        if self.reports is not None:
            found = {"bad": bad.count, "places": bad.places}
            write_json_atomic(self.reports / f"{rank:05d}.read.json", found)


class MarkSpans(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """Cuts documents into segments and lets each scorer mark them; earlier marks by other scorers stay.

    Holds some thousands of segments at a time, whatever the corpus. At the end writes to ``reports`` what was counted.
    """

    type = _TYPE
    name = "mark"

    def __init__(
        self,
        scorers: Sequence[SpanScorer],
        unit: Unit = "sentences",
        *,
        language: str = "en",
        at_once: int = _SEGMENTS,
        reports: Path | None = None,
    ) -> None:
        super().__init__()
        check_unit(unit)
        self.scorers, self.unit, self.language = tuple(scorers), unit, language
        self.at_once, self.reports = at_once, reports

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of ``data`` in order, marked."""
        tally = ShardTally()
        before = self._counts()
        for group in self._groups(data):
            with self.track_time("batch"):
                found = list(self._marked(group, tally))
            yield from found
        now = self._counts()
        counts = {
            name: {what: n - before[name].get(what, 0) for what, n in each.items()}
            for name, each in now.items()
        }
        self.stat_update("segments", value=sum(each.segments for each in tally.scorers.values()))
        if self.reports is not None:
            write_json_atomic(self.reports / f"{rank:05d}.marked.json", tally.to_dict(counts))

    def _groups(self, data: Iterable[Document]) -> Iterator[list[tuple[MarkedText, SpannedText]]]:
        held: list[tuple[MarkedText, SpannedText]] = []
        spans = characters = 0
        for document in data:
            marked = as_marked_text(document)
            cut = segments(marked.text, self.unit, language=self.language)
            text = SpannedText(marked.text, cut, self.unit, self.language, marked.id, marked.meta)
            held.append((marked, text))
            spans += len(cut)
            characters += len(marked.text)
            if spans >= self.at_once or characters >= _CHARACTERS:
                yield held
                held, spans, characters = [], 0, 0
        if held:
            yield held

    def _marked(
        self, group: Sequence[tuple[MarkedText, SpannedText]], tally: ShardTally
    ) -> Iterator[Document]:
        texts = [text for _, text in group]
        by_scorer = [marks_by(scorer, texts) for scorer in self.scorers]
        for place, (marked, _) in enumerate(group):
            made = [marks for found in by_scorer for marks in found[place]]
            for marks in made:
                marked = marked.with_marks(marks)
            tally.add(marked, made)
            yield as_document(marked)

    def _counts(self) -> dict[str, Mapping[str, int]]:
        return {each.name: dict(each.counts()) for each in self.scorers if isinstance(each, Counting)}


class WriteShard(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """Writes the shard to ``folder``, whole or not at all, and passes the documents on.

    ``notes``: a folder where it keeps how many characters it has done, and leaves what went wrong.
    """

    type = _TYPE
    name = "write"

    def __init__(self, folder: Path, form: Format = "jsonl", notes: Path | None = None) -> None:
        super().__init__()
        check_format(form)
        self.folder, self.form, self.notes = folder, form, notes

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents of ``data``, written."""
        done, told = 0, 0.0
        try:
            with shard_writer(shard_file(self.folder, rank, self.form), self.form) as write:
                for document in data:
                    write(as_marked_text(document))
                    self.stat_update("documents")
                    done += len(document.text)
                    if self.notes is not None and time.monotonic() - told > _PULSE:
                        told = time.monotonic()
                        _pulse(self.notes / f"{rank:05d}.done", done)
                    yield document
        except Exception as error:
            if self.notes is not None:  # how who started this learns of it, on whatever machine it ran
                failed = {"error": type(error).__name__, "message": str(error)}
                write_json_atomic(self.notes / f"{rank:05d}.failed.json", failed)
            raise


def _pulse(path: Path, done: int) -> None:
    with suppress(OSError):  # only for a progress bar
        path.write_text(str(done), encoding="utf-8")
