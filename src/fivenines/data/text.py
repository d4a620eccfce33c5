"""Documents from plain text, JSONL and Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.lib as pa
import pyarrow.parquet as pq

from fivenines.data.lines import json_objects, suffix, text_lines
from fivenines.errors import DataError, sentence

__all__ = ["Document", "read_texts"]

_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs together, as a book or a story. ``source`` is its name wherever it goes."""

    text: str
    source: str


def read_texts(
    paths: str | Path | Sequence[str | Path], *, text_key: str = "text", source_key: str = "source"
) -> Iterator[Document]:
    """Every document of the files, in order; one at a time in memory. Blank documents are passed over.

    By the file's name (also with .gz): ``.jsonl`` and ``.parquet`` hold a document in ``text_key`` of each
    row, named by ``source_key`` where the row has it; any other file is plain text, where ``<|endoftext|>``
    ends a document. A document without a name of its own is called after its file, relative to the folder
    that all files share, and its place in it ("books/a.txt", "stories.txt#12").

    :raises DataError: for a file that cannot be read, bytes that are not UTF-8, a row without text; names the
    place.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        return
    root = Path(os.path.commonpath([file.absolute().parent for file in files]))
    for file in files:
        name = file.absolute().relative_to(root).as_posix()
        kind = suffix(file)
        if kind in (".jsonl", ".ndjson"):
            rows: Iterable[Document] = _from_jsonl(file, name, text_key, source_key)
        elif kind == ".parquet":
            rows = _from_parquet(file, name, text_key, source_key)
        else:
            rows = _from_plain(file, name)
        yield from (document for document in rows if document.text.strip())


def _from_plain(file: Path, name: str) -> Iterator[Document]:
    """The only document of a file bears the file's name; of several, each has its number."""
    lines: list[str] = []
    number = 1
    for _, line in text_lines(file):
        *ended, rest = line.split(_END_OF_TEXT)
        for part in ended:
            text = "\n".join([*lines, part]).strip("\n")
            lines = []
            if text.strip():
                yield Document(text, f"{name}#{number}")
                number += 1
        if rest or not ended:
            lines.append(rest)
    text = "\n".join(lines).strip("\n")
    yield Document(text, name if number == 1 else f"{name}#{number}")


def _from_jsonl(file: Path, name: str, text_key: str, source_key: str) -> Iterator[Document]:
    for number, (where, row) in enumerate(json_objects(file), start=1):
        yield _document(where, row.get(text_key), row.get(source_key), text_key, f"{name}#{number}")


def _from_parquet(file: Path, name: str, text_key: str, source_key: str) -> Iterator[Document]:
    try:
        table = pq.ParquetFile(file)  # type: ignore[no-untyped-call]
        columns = table.schema_arrow.names
        if text_key not in columns:
            got = f"columns {', '.join(columns)}"
            raise DataError(sentence(str(file), f'must have a column "{text_key}"', got))
        wanted = [key for key in (text_key, source_key) if key in columns]
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=wanted):  # type: ignore[no-untyped-call]
            for row in batch.to_pylist():
                number += 1
                where = f"{file}, row {number}"
                yield _document(where, row.get(text_key), row.get(source_key), text_key, f"{name}#{number}")
    except (pa.ArrowException, OSError) as error:
        raise DataError(sentence(str(file), "must be a readable Parquet file", str(error))) from error


def _document(where: str, text: object, source: object, text_key: str, name: str) -> Document:
    if not isinstance(text, str):
        raise DataError(sentence(where, f'must have text in "{text_key}"', text))
    return Document(text, name if source is None else str(source))
