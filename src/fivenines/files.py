"""Files that are whole or absent, and JSON lines read with the place of what is wrong.

A file is written beside its place, flushed to the disk, and renamed over it: a reader, or a run after a kill,
sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fivenines.errors import DataError, ResourceError, sentence

__all__ = [
    "atomic_file",
    "read_json",
    "read_jsonl",
    "resource_errors",
    "sync_folder",
    "write_json_atomic",
    "write_jsonl_atomic",
]

_MEND = {
    errno.ENOSPC: "Free some space and run again: what was there before is unharmed.",
    errno.EDQUOT: "The quota is used up: free some space and run again.",
    errno.EFBIG: "The file would pass the size limit of this process or file system.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.EACCES: "Allow it, or choose another folder.",
    errno.EPERM: "Allow it, or choose another folder.",
    errno.ENOENT: "Choose a folder where files can be made.",
    errno.ENOTDIR: "A part of the path is a file: choose another folder.",
    errno.EEXIST: "A part of the path is a file: choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EIO: "The disk reports a fault: check it before anything else.",
}


@contextmanager
def resource_errors(path: Path) -> Iterator[None]:
    """Turn what the machine refuses (disk full, no permission, read-only) into one clear line.

    Raises:
        ResourceError: in place of an OSError that names a limit of the machine; others pass unchanged.
    """
    try:
        yield
    except OSError as error:
        mend = _MEND.get(error.errno or 0)
        if mend is None:
            raise
        reason = (error.strerror or str(error)).lower()
        raise ResourceError(sentence(str(path), "must be writable", reason, mend)) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, without which a rename may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write ("w": UTF-8 text, "wb": bytes) that appears under its name only when all went well.

    Raises:
        ResourceError: disk full, no permission, read-only; the file that was there before is unharmed.
    """
    path = Path(path)
    # The process id keeps two processes that write the same file from sharing a half-written one.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, mode, encoding=None if "b" in mode else "utf-8") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        sync_folder(path.parent)


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON.

    Paths, dataclasses, mappings and numpy scalars are written as what they hold.

    Raises:
        DataError: the value holds what JSON cannot (NaN, infinity, an unknown type).
        ResourceError: as :func:`atomic_file`.
    """
    text = _dumps(path, value, indent=2)
    with atomic_file(path) as handle:
        handle.write(text + "\n")


def write_jsonl_atomic(path: str | Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line, in constant memory, and return their number. Errors as for JSON."""
    count = 0
    with atomic_file(path) as handle:
        for row in rows:
            handle.write(_dumps(path, row) + "\n")
            count += 1
    return count


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(sentence(str(path), "must be a readable JSON file", str(error))) from error


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON lines file with their line numbers, from 1. Blank lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object; names the file and the line.
    """
    number = 0
    try:
        with open(path, "rb") as handle:  # bytes: a bad byte is then an error of its own line
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield number, _parse_line(path, number, line)
    except OSError as error:
        raise DataError(
            sentence(str(path), "must be a readable file", error.strerror or str(error))
        ) from error


def _parse_line(path: str | Path, number: int, line: bytes) -> dict[str, Any]:
    where = f"{path}, line {number}"
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        shown = line.decode("utf-8", "replace").strip()
        raise DataError(
            sentence(where, f"must be JSON ({error})", shown, "Mend or delete the line.")
        ) from error
    if not isinstance(value, dict):
        raise DataError(sentence(where, "must be a JSON object", value, "Mend or delete the line."))
    return value


def _dumps(path: str | Path, value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain)
    except (TypeError, ValueError) as error:
        raise DataError(sentence(str(path), "must be given values that JSON can hold", str(error))) from error


def _plain(value: Any) -> Any:
    """What JSON can write of a value it does not know; ``default`` of :func:`json.dumps`."""
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")
