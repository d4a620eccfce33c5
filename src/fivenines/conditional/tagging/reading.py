"""Marked texts out of files: rows, Parquet, plain text; what is broken is named by file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow.lib as pa
import pyarrow.parquet as pq

from fivenines.conditional.marks import MarkedText
from fivenines.conditional.tagging.places import END_OF_TEXT, Piece, compression, expand, opened, plan_shards
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.files import read_json

__all__ = ["BadRows", "Columns", "read_marked", "read_piece", "too_many"]

_OWN = ("marks", "meta", "metadata")  # columns that are ours, or datatrove's
_SHOWN = 100  # places of bad rows that are kept
_SKIP = "Mend it, or skip such lines: --bad skip."


@dataclass(frozen=True)
class Columns:
    """Where a row has its text and its name. Without a name it is called after its file and line."""

    text: str = "text"
    id: str = "id"


@dataclass
class BadRows:
    """What to do with a row that is broken: "stop", or "skip" up to ``most`` of them."""

    policy: Literal["stop", "skip"] = "stop"
    most: int = 100
    count: int = 0
    places: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in ("stop", "skip"):
            raise ConfigError(sentence("bad", "must be stop or skip", self.policy))
        if self.most < 0:
            raise ConfigError(sentence("max_bad", "must be at least 0", self.most))

    def note(self, error: DataError) -> None:
        """Count it, or raise it. Raises DataError after too many."""
        if self.policy == "stop":
            raise error
        self.count += 1
        if len(self.places) < _SHOWN:
            self.places.append(str(error))
        if self.count > self.most:
            raise too_many(self.count, self.most, self.places)


def too_many(count: int, most: int, places: list[str]) -> DataError:
    """The error for more broken lines than may be skipped."""
    then = f"The first: {places[0]} Allow more with --max-bad."
    return DataError(sentence("broken lines", f"must be at most {most:,}", f"{count:,}", then))


def read_marked(inputs: Iterable[str | Path], *, columns: Columns | None = None) -> Iterator[MarkedText]:
    """Every text of files, folders (such as the output of a run) or patterns, in order; one at a time in memory.

    Raises DataError for what is broken, with file and line, and for a folder that is marked in part.
    """
    inputs = list(inputs)
    _check_whole(inputs)
    bad = BadRows()
    for shard in plan_shards(expand(inputs), 1 << 62):
        for piece in shard:
            yield from read_piece(piece, Columns() if columns is None else columns, bad)


def _check_whole(inputs: Iterable[str | Path]) -> None:
    """Raises DataError for folders of a run that has not come to its end, or whose shards have been lost since."""
    given = [path for path in (Path(each).expanduser() for each in inputs) if path.is_dir()]
    for folder in sorted({*given, *(file.parent for file in (expand(given) if given else []))}):
        then = "Give the command of its run again: it does what is missing."
        manifest = folder / "manifest.json"
        if manifest.is_file():
            missing = [name for name in _shards(manifest) if not (folder / name).is_file()]
            if missing:
                got = f"no {missing[0]}" + (f" and {len(missing) - 1} other(s)" if missing[1:] else "")
                raise DataError(sentence(str(folder), "must hold all shards of its manifest", got, then))
        elif (folder / "_work" / "plan.json").is_file():
            must, got = "must be a marked corpus that is whole", "a run without its manifest"
            raise DataError(sentence(str(folder), must, got, then))


def _shards(manifest: Path) -> list[str]:
    """The shards that a manifest names; none where it is somebody else's."""
    try:
        found = read_json(manifest)
    except DataError:
        return []
    ours = isinstance(found, dict) and {"scorers", "shards", "broken lines"} <= found.keys()
    return list(found["shards"]) if ours else []


def read_piece(piece: Piece, columns: Columns, bad: BadRows) -> Iterator[MarkedText]:
    """The texts of a piece, in order. Blank lines are passed over; blank texts are texts.

    Columns besides text, id, marks and meta become metadata.
    """
    rows = {"rows": _from_rows, "parquet": _from_parquet, "text": _from_text}[piece.kind]
    yield from rows(piece, columns, bad)


def _lines(piece: Piece) -> Iterator[tuple[int, bytes]]:
    """The lines of a piece with their numbers."""
    path = Path(piece.file)
    with opened(path) as handle:
        if compression(path):
            yield from enumerate(islice(handle, piece.start, piece.stop), start=piece.line)
            return
        handle.seek(piece.start)
        place = piece.start
        for number, raw in enumerate(handle, start=piece.line):
            if place >= piece.stop:
                break
            place += len(raw)
            yield number, raw


def _decoded(where: str, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig" if where.endswith("line 1") else "utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {raw[error.start]:#04x} at position {error.start + 1}"
        raise DataError(
            sentence(where, "must be UTF-8 text", got, f"Save the file as UTF-8. {_SKIP}")
        ) from None
    if "\0" in text:
        then = f"Is it a binary file or UTF-16? {_SKIP}"
        raise DataError(sentence(where, "must be UTF-8 text", "a zero byte", then))
    return text


def _from_rows(piece: Piece, columns: Columns, bad: BadRows) -> Iterator[MarkedText]:
    for number, raw in _lines(piece):
        where = f"{piece.file}, line {number}"
        try:
            line = _decoded(where, raw)
            if not line.strip():
                continue
            marked = _marked(where, _parsed(where, line), columns, f"{piece.name}#{number}")
        except DataError as error:
            bad.note(error)
        else:
            yield marked


def _parsed(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DataError(sentence(where, f"must be JSON ({error})", line.strip(), _SKIP)) from None
    if not isinstance(row, dict):
        raise DataError(sentence(where, "must be a JSON object", row, _SKIP))
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value


def _marked(where: str, row: Mapping[str, Any], columns: Columns, name: str) -> MarkedText:
    """A row as a text; its name is that of the place where it has none of its own."""
    text = row.get(columns.text)
    if not isinstance(text, str):
        got = f"columns {', '.join(map(str, row)) or 'none'}" if text is None else repr(text)
        raise DataError(sentence(where, f'must have text in "{columns.text}"', got, _SKIP))
    _check_unicode(where, "text", text)
    meta, marks = _metadata(where, row, columns)
    given = row.get(columns.id)
    key = name if given is None or given == "" else str(given)
    _check_unicode(where, "an id", key)
    return MarkedText.from_row({"text": text, "id": key, "meta": meta, "marks": marks}, where)


def _check_unicode(where: str, what: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = f"half a surrogate pair at character {error.start + 1}"
        raise DataError(sentence(where, f"must have {what} that is Unicode", got, _SKIP)) from None


def _metadata(where: str, row: Mapping[str, Any], columns: Columns) -> tuple[dict[str, Any], Any]:
    """What a row holds besides, and its marks: beside the text, or in the metadata where datatrove wrote them."""
    own = {columns.text, columns.id, *_OWN}
    meta = {str(key): value for key, value in row.items() if key not in own}
    marks = row.get("marks")
    for key in ("metadata", "meta"):
        held = row.get(key)
        if isinstance(held, str) and key == "meta":  # as Parquet has it from us
            held = _parsed(f"{where}: meta", held)
        if isinstance(held, Mapping):
            meta |= held
        elif held is not None:
            raise DataError(sentence(where, f'must have an object in "{key}"', held, _SKIP))
    inside = meta.pop("marks", None) if isinstance(row.get("metadata"), Mapping) else None
    return meta, (inside if marks is None else marks) or ()


def _from_parquet(piece: Piece, columns: Columns, bad: BadRows) -> Iterator[MarkedText]:
    try:
        file = pq.ParquetFile(piece.file)  # type: ignore[no-untyped-call]
        if columns.text not in file.schema_arrow.names:
            got = f"columns {', '.join(file.schema_arrow.names)}"
            raise DataError(sentence(piece.file, f'must have a column "{columns.text}"', got))
        number = first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows > piece.start and first < piece.stop:
                number = first
                batches = file.iter_batches(256, [group])  # type: ignore[no-untyped-call]
                for batch in batches:
                    low, high = max(0, piece.start - number), min(batch.num_rows, piece.stop - number)
                    part = batch.slice(low, high - low).to_pylist() if high > low else []
                    yield from _from_batch(part, number + low + 1, piece, columns, bad)
                    number += batch.num_rows
            first += rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(sentence(piece.file, "must be a readable Parquet file", str(error))) from error


def _from_batch(
    rows: list[dict[str, Any]], first: int, piece: Piece, columns: Columns, bad: BadRows
) -> Iterator[MarkedText]:
    for number, row in enumerate(rows, start=first):
        try:
            marked = _marked(f"{piece.file}, row {number}", row, columns, f"{piece.name}#{number}")
        except DataError as error:
            bad.note(error)
        else:
            yield marked


def _from_text(piece: Piece, columns: Columns, bad: BadRows) -> Iterator[MarkedText]:
    """A file is one document, untouched and called after it; where <|endoftext|> ends documents, after the line
    that each begins in.

    A broken line breaks its document.
    """
    parts: list[str] = []
    begun, several, broken = 0, piece.line > 1, False
    for number, raw in _lines(piece):
        for place, part in enumerate(raw.split(END_OF_TEXT)):
            if place:  # a document has ended
                several = True
                if begun and not broken:
                    yield MarkedText("".join(parts).strip("\n"), f"{piece.name}#{begun}")
                parts, begun, broken = [], 0, False
            begun = begun or (number if part.strip() else 0)
            try:
                parts.append(_decoded(f"{piece.file}, line {number}", part))
            except DataError as error:
                broken = True
                bad.note(error)
    if not broken and not several:
        yield MarkedText("".join(parts), piece.name)
    elif not broken and begun:
        yield MarkedText("".join(parts).strip("\n"), f"{piece.name}#{begun}")
