"""Shards on disk: whole or absent, the same bytes for the same texts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, Literal, get_args

import pyarrow.lib as pa
import pyarrow.parquet as pq

from fivenines.conditional.marks import MarkedText
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.files import atomic_file, resource_errors

__all__ = ["Format", "check_format", "shard_file", "shard_writer", "sweep"]

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]
Write = Callable[[MarkedText], None]
_ROWS = 512  # of Parquet, gathered before they are written
_CHARACTERS = 4 << 20

# Metadata differ from row to row, so Parquet has them as JSON in text; a struct would want one schema for all shards.
_SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("id", pa.string()),
        ("meta", pa.string()),
        (
            "marks",
            pa.list_(
                pa.struct(
                    [
                        ("scorer", pa.string()),
                        ("version", pa.string()),
                        ("spans", pa.list_(pa.list_(pa.int64()))),
                        ("scores", pa.list_(pa.float64())),
                    ]
                )
            ),
        ),
    ]
)


def check_format(name: str) -> None:
    """Raises ConfigError for a format that is none."""
    if name not in get_args(Format):
        raise ConfigError(sentence("format", f"must be one of {', '.join(get_args(Format))}", name))


def shard_file(folder: Path, rank: int, form: Format) -> Path:
    """The file of a shard. Sorted by name, files are in the order of the documents."""
    return folder / f"part-{rank:05d}.{form}"


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind. Only while nobody writes there."""
    for path in folder.glob(".part-*.partial"):
        path.unlink(missing_ok=True)


@contextmanager
def shard_writer(path: Path, form: Format) -> Iterator[Write]:
    """A function that writes a text. The file appears when all went well, never half.

    Raises DataError for metadata that JSON cannot hold, ResourceError when the disk is full.
    """
    with atomic_file(path, "wb") as raw, resource_errors(path):
        if form == "parquet":
            with _parquet(raw) as write:
                yield write
        else:
            with _packed(raw, form) as handle:
                yield lambda marked: _write_line(handle, marked)


def _write_line(handle: Any, marked: MarkedText) -> None:
    handle.write(_json(marked.to_row(), marked.id).encode("utf-8") + b"\n")


@contextmanager
def _packed(raw: IO[bytes], form: Format) -> Iterator[Any]:
    if form == "jsonl.gz":  # without name and time, so that the same rows give the same bytes
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
            yield packed
    elif form == "jsonl.zst":
        sink = pa.PythonFile(_KeptOpen(raw), mode="w")
        with pa.CompressedOutputStream(sink, "zstd") as packed:
            yield packed
    else:
        yield raw


class _KeptOpen:
    """A file that arrow does not close: it must still be flushed to the disk."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.write, self.flush, self.closed = raw.write, raw.flush, False

    def close(self) -> None:
        self.closed = True


@contextmanager
def _parquet(raw: IO[bytes]) -> Iterator[Write]:
    held: list[dict[str, Any]] = []
    size = 0
    writer = pq.ParquetWriter(raw, _SCHEMA, compression="zstd")  # type: ignore[no-untyped-call]
    with writer:

        def flush() -> None:
            nonlocal size
            if held:
                table = pa.Table.from_pylist(held, schema=_SCHEMA)
                writer.write_table(table)  # type: ignore[no-untyped-call]
            held.clear()
            size = 0

        def write(marked: MarkedText) -> None:
            nonlocal size
            row = marked.to_row()
            held.append({**row, "meta": _json(row["meta"], marked.id)})
            size += len(marked.text)
            if len(held) >= _ROWS or size >= _CHARACTERS:
                flush()

        yield write
        flush()


def _json(value: Any, name: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:  # half a surrogate pair in metadata: JSON can spell it, UTF-8 cannot
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        must = "must have metadata that JSON can hold"
        raise DataError(sentence(f"text {name}", must, str(error))) from error
    return text


def _plain(value: Any) -> Any:
    """What Parquet knows and JSON does not."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)
