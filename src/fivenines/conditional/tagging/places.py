"""Which parts of which files make up each shard: large files in ranges of lines or rows, small ones together.

A shard is what a kill can cost. Its pieces are found once, by reading every file through, and then written down; so a
file whose compression is broken is refused before anything is scored.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow.lib as pa
import pyarrow.parquet as pq

from fivenines.errors import DataError, sentence

__all__ = [
    "END_OF_TEXT",
    "Piece",
    "compression",
    "expand",
    "file_kind",
    "fingerprint",
    "opened",
    "plan_shards",
]

END_OF_TEXT = b"<|endoftext|>"
Kind = Literal["rows", "parquet", "text"]
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_FILES = 1000  # in a shard at most: of small ones, as code is
_RANGES = 32  # of a compressed file at most, since each range is found by unpacking all before it
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file. ``start`` and ``stop`` count bytes in plain files, lines in compressed ones, rows in Parquet.

    ``name`` is the file's, relative to the folder that all files share; ``line`` the number of the first line or row,
    from 1; ``size`` in bytes, unpacked.
    """

    file: str
    name: str
    kind: Kind
    start: int
    stop: int
    line: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def compression(path: Path) -> str | None:
    """How a file is packed, by its name."""
    return _PACKED.get(path.suffix.lower())


def file_kind(path: Path) -> Kind:
    """By the name, after .gz or .zst: .jsonl and .ndjson hold rows, .parquet too; all else is plain text."""
    bare = Path(path.stem) if compression(path) else path
    ending = bare.suffix.lower()
    return "rows" if ending in (".jsonl", ".ndjson") else "parquet" if ending == ".parquet" else "text"


def expand(inputs: Iterable[str | Path]) -> list[Path]:
    """The files behind names, patterns and folders, in order, each once. Hidden ones and manifests do not count.

    Raises DataError for a name that stands for nothing.
    """
    found: dict[Path, None] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = [file for file in sorted(path.rglob("*")) if _counts(file.relative_to(path), file)]
        else:
            matches = [
                Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()
            ]
        if not matches:
            raise DataError(sentence("IN", "must name files, folders or patterns", f"nothing at {given}"))
        found.update((match.absolute(), None) for match in matches)
    return list(found)


def _counts(inside: Path, path: Path) -> bool:
    hidden = any(part[0] in "._" for part in inside.parts)
    return path.is_file() and not hidden and inside.name != "manifest.json"


def fingerprint(files: Sequence[Path]) -> list[list[Any]]:
    """By what a changed file is known: name, size and the time of its last change."""
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file unpacked. Raises DataError where it cannot be read to its end."""
    packed = compression(path)
    try:
        if packed is None:
            with open(path, "rb", _BUFFER) as handle:
                yield handle
        else:  # arrow's reader, unlike that of zstandard, says when a file is cut short
            with pa.input_stream(str(path), compression=packed) as stream:
                yield io.BufferedReader(stream, _BUFFER)
    except OSError as error:
        what = f"must be a whole {packed} file" if packed else "must be a readable file"
        raise DataError(sentence(str(path), what, (error.strerror or str(error)).lower())) from error


def plan_shards(files: Sequence[Path], size: int) -> list[list[Piece]]:
    """The pieces of each shard, of about ``size`` bytes, in the order of the files.

    Rows are cut between lines (a plain text file after a line with <|endoftext|>), Parquet between rows. A document is
    never cut, so a text file without that mark is one piece, however large.
    """
    root = Path(os.path.commonpath([file.parent for file in files]))
    shards: list[list[Piece]] = []
    held = size  # in the last shard
    for file in files:
        for piece in _pieces(file, file.relative_to(root).as_posix(), size):
            if held >= size or held + piece.size > 2 * size or len(shards[-1]) >= _FILES:
                shards.append([])
                held = 0
            shards[-1].append(piece)
            held += piece.size
    return shards


def _pieces(file: Path, name: str, size: int) -> Iterator[Piece]:
    kind = file_kind(file)
    if kind == "parquet":
        yield from _row_ranges(file, name, size)
        return
    cuts = [(0, 0, 0)]  # bytes, lines, and the place in the file's own units
    for at_byte, at_line in _cuts(file, kind, size):
        cuts.append((at_byte, at_line, at_line if compression(file) else at_byte))
    if compression(file) and len(cuts) > _RANGES + 1:
        step = -(-len(cuts) // _RANGES)
        cuts = [*cuts[:-1:step], cuts[-1]]
    for (low, line, start), (high, _, stop) in pairwise(cuts):
        yield Piece(str(file), name, kind, start, stop, line + 1, high - low)


def _cuts(file: Path, kind: Kind, size: int) -> Iterator[tuple[int, int]]:
    """Bytes and lines before each cut; the last is the end of the file."""
    offset = number = last = 0
    with opened(file) as handle:
        for number, line in enumerate(handle, start=1):
            offset += len(line)
            if offset - last >= size and (kind == "rows" or END_OF_TEXT in line):
                yield offset, number
                last = offset
    if offset > last:
        yield offset, number


def _row_ranges(file: Path, name: str, size: int) -> Iterator[Piece]:
    try:
        meta = pq.read_metadata(file)  # type: ignore[no-untyped-call]
        groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(sentence(str(file), "must be a readable Parquet file", str(error))) from error
    first = 0
    for group in groups:
        parts = max(1, min(group.num_rows, round(group.total_byte_size / size)))
        for part in range(parts):
            low, high = group.num_rows * part // parts, group.num_rows * (part + 1) // parts
            if high > low:
                start, each = first + low, group.total_byte_size * (high - low) // group.num_rows
                yield Piece(str(file), name, "parquet", start, first + high, start + 1, each)
        first += group.num_rows
