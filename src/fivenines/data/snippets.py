"""Snippets and prompts as files: JSON lines with ``prompt``, ``completion``, ``source`` and whatever else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fivenines.data.lines import json_objects, suffix, text_lines
from fivenines.errors import DataError, sentence
from fivenines.files import write_jsonl_atomic
from fivenines.records import Snippet

__all__ = ["read_prompts", "read_snippets", "write_snippets"]


def read_snippets(path: str | Path, *, source_key: str = "source") -> Iterator[Snippet]:
    """The snippets of a JSONL file (also .gz), one at a time. Keys besides prompt, completion and source are
    ``meta``.

    :raises DataError: for a line without prompt or completion, or with a blank one; names file and line.
    """
    for where, row in json_objects(Path(path)):
        meta = {k: v for k, v in row.items() if k not in ("prompt", "completion", source_key)}
        source = row.get(source_key)
        yield Snippet(
            _text(where, row, "prompt"),
            _text(where, row, "completion"),
            source="" if source is None else str(source),
            meta=meta,
        )


def read_prompts(path: str | Path) -> Iterator[str]:
    """The prompts of a file: the key ``prompt`` of each line of JSONL (also .gz), else one prompt a line.

    :raises DataError: for a line without a prompt, or with a blank one; names file and line.
    """
    path = Path(path)
    if suffix(path) in (".jsonl", ".ndjson"):
        for where, row in json_objects(path):
            yield _text(where, row, "prompt")
    else:
        for _, line in text_lines(path):
            if line.strip():
                yield line.strip()


def write_snippets(path: str | Path, snippets: Iterable[Snippet]) -> int:
    """Write JSONL that :func:`read_snippets` reads back, whole or not at all, and return the number of lines.

    :raises DataError: when ``meta`` holds what JSON cannot, or a key of a snippet's own.
    :raises ResourceError: when the disk is full or the place is not writable.
    """
    return write_jsonl_atomic(path, (_row(snippet) for snippet in snippets))


def _row(snippet: Snippet) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": snippet.prompt, "completion": snippet.completion}
    if snippet.source:
        row["source"] = snippet.source
    clash = sorted({"prompt", "completion", "source"} & set(snippet.meta))
    if clash:
        raise DataError(sentence("meta", "must not hold a snippet's own keys", ", ".join(clash)))
    return row | dict(snippet.meta)


def _text(where: str, row: dict[str, Any], key: str) -> str:
    if key not in row:
        got = f"keys {', '.join(row)}" if row else "an empty object"
        raise DataError(sentence(where, f'must have "{key}"', got))
    value = row[key]
    if not isinstance(value, str):
        raise DataError(sentence(f"{where}: {key}", "must be text", value))
    if not value.strip():
        raise DataError(
            sentence(f"{where}: {key}", "must not be blank", repr(value), "Fill or delete the line.")
        )
    return value
