"""Lines of text files, plain or .gz, with the place of what is wrong."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fivenines.errors import DataError, sentence

__all__ = ["json_objects", "suffix", "text_lines"]


def suffix(path: Path) -> str:
    """The last suffix, in lower case, after ``.gz`` is taken off: ".jsonl" for a.JSONL.gz."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as handle:
            yield handle  # type: ignore[misc]  # GzipFile reads like any binary file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(sentence(str(path), "must be a whole gzip file", str(error))) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(sentence(str(path), "must be a readable file", reason)) from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and lines without their ends. A byte-order mark is passed over.

    :raises DataError: for a file that cannot be read, or a byte that is not UTF-8; names line and byte.
    """
    with _opened(path) as handle:
        for number, raw in enumerate(handle, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                got = f"byte {raw[error.start]:#04x} at position {error.start + 1}"
                then = "Save the file as UTF-8."
                raise DataError(sentence(f"{path}, line {number}", "must be UTF-8 text", got, then)) from None
            if "\0" in line:
                got = "a zero byte"
                raise DataError(
                    sentence(
                        f"{path}, line {number}", "must be UTF-8 text", got, "Is it a binary file or UTF-16?"
                    )
                )
            yield number, line.rstrip("\r\n")


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON lines file, each with its place ("FILE, line N"). Blank lines are passed over.

    :raises DataError: for a line that is no JSON object; names file and line.
    """
    for number, line in text_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            must = f"must be JSON ({error})"
            raise DataError(sentence(where, must, line.strip(), "Mend or delete the line.")) from None
        if not isinstance(value, dict):
            raise DataError(sentence(where, "must be a JSON object", value, "Mend or delete the line."))
        yield where, value
