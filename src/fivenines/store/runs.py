"""Run folders: what machines made, in steps that are done or not, and resume after a kill.

    runs/
      train-classifier/
        config.json      the inputs, their hashes, the versions, when it started: written first
        metrics.json     what the step measured
        ...              the step's artefacts and checkpoints
        DONE             the key of the inputs, and the files there were: written last

A step is done when DONE is there, was written for the same inputs, and no file that it lists is missing. A
step that was killed is entered again with its folder as it was left, so that its own checkpoints serve. When
the inputs have changed, the old folder is moved to ``<name>.previous`` (replacing an older one): what
machines made can be made again, and one step back is kept. What people typed is never here but in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fivenines.errors import ConfigError, DataError, FiveninesError, sentence
from fivenines.files import (
    read_json,
    resource_errors,
    sync_folder,
    write_json_atomic,
    write_jsonl_atomic,
)

__all__ = ["RunFolder", "Step", "hash_path", "versions"]

_OWN = frozenset({"config.json", "DONE"})


class RunFolder:
    """The folder that holds the steps of one task.

    >>> runs = RunFolder("injury/runs")                              # doctest: +SKIP
    >>> step = runs.step("score", {"model": folder, "seed": 0})      # doctest: +SKIP
    >>> if not step.is_done():                                       # doctest: +SKIP
    ...     with step:
    ...         step.write_jsonl("scores.jsonl", rows)
    ...         step.write_metrics({"auroc": 0.92})
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def step(self, name: str, inputs: Mapping[str, Any]) -> Step:
        """The step of this name for these inputs; nothing is written before it is entered.

        An input is anything JSON can hold; a ``Path`` stands for the content of that file or folder, and a
        :class:`Step` for its key.

        Raises:
            ConfigError: a name that is no plain folder name.
            DataError: an input that cannot be hashed: a missing path, an unknown type.
        """
        if not name or name != Path(name).name or name.startswith(".") or name.endswith(".previous"):
            raise ConfigError(sentence("name of a step", "must be a plain folder name", name))
        return Step(self.path / name, inputs)

    def names(self) -> list[str]:
        """The names of the steps that were begun, sorted."""
        if not self.path.is_dir():
            return []
        found = (p.name for p in self.path.iterdir() if (p / "config.json").is_file())
        return sorted(n for n in found if not n.startswith(".") and not n.endswith(".previous"))

    def metrics(self, name: str) -> dict[str, Any]:
        """What a finished step measured.

        Raises:
            DataError: the step is not done, or its metrics cannot be read.
        """
        folder = self.path / name
        if not (folder / "DONE").is_file():
            raise DataError(sentence(f"step {name}", "must be done before its metrics are read", "no DONE"))
        return _read_metrics(folder)


class Step:
    """One step: a folder that is filled once and marked DONE last. Made by :meth:`RunFolder.step`.

    ``key`` is the hash of the inputs; ``moved_aside`` is where a folder made from other inputs went, if so.
    Leaving the ``with`` block by an exception, or being killed in it, leaves the folder for the next attempt.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any]) -> None:
        self.path = path
        self.name = path.name
        self.moved_aside: Path | None = None
        self.inputs: dict[str, Any] = {key: _described(key, value) for key, value in inputs.items()}
        self.key = _digest(json.dumps([self.name, self.inputs], sort_keys=True, ensure_ascii=False))
        self._entered: float | None = None

    def is_done(self) -> bool:
        """Whether DONE was written for exactly these inputs, and the files it lists are still there."""
        done = _read_or_none(self.path / "DONE")
        if done is None or done.get("key") != self.key:
            return False
        files: dict[str, int] = done.get("files", {})
        return all(_size(self.path / name) == size for name, size in files.items())

    @property
    def state(self) -> str:
        """ "done", "partial" (begun with these inputs), "stale" (made from other inputs) or "missing"."""
        if self.is_done():
            return "done"
        if not self.path.is_dir():
            return "missing"
        return (
            "partial" if (_read_or_none(self.path / "config.json") or {}).get("key") == self.key else "stale"
        )

    def file(self, name: str) -> Path:
        """The path of an artefact of this step."""
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """Write an artefact as JSON, whole or not at all."""
        write_json_atomic(self._writable(name), value)
        return self.path / name

    def write_jsonl(self, name: str, rows: Iterable[Any]) -> Path:
        """Write an artefact as JSON lines, whole or not at all."""
        write_jsonl_atomic(self._writable(name), rows)
        return self.path / name

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write, or replace, what the step measured."""
        write_json_atomic(self._writable("metrics.json"), dict(metrics))

    def metrics(self) -> dict[str, Any]:
        """What the step measured.

        Raises:
            DataError: there is no readable metrics.json.
        """
        return _read_metrics(self.path)

    def __enter__(self) -> Self:
        self._entered = time.monotonic()
        if self.is_done():
            return self  # nothing to do; writing to it is refused
        with resource_errors(self.path):
            if self.state == "stale":
                self._move_aside()
            (self.path / "DONE").unlink(missing_ok=True)  # same inputs, but a file is missing
            if not self.path.is_dir():
                self._create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started, self._entered = self._entered, None
        if kind is None and started is not None and not self.is_done():
            with resource_errors(self.path):
                self._finish(time.monotonic() - started)

    def _writable(self, name: str) -> Path:
        if self._entered is None:
            raise FiveninesError(
                sentence(f"step {self.name}", "must be entered before it is written to", name)
            )
        if (self.path / "DONE").exists():
            then = "Ask is_done() first."
            raise FiveninesError(
                sentence(f"step {self.name}", "must not be written to once done", name, then)
            )
        return self.path / name

    def _create(self) -> None:
        # Made under another name: a folder without its config.json then was not made by us.
        partial = self.path.with_name(f".{self.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        config = {
            "step": self.name,
            "key": self.key,
            "inputs": self.inputs,
            "versions": versions(),
            "started": _now(),
        }
        try:
            write_json_atomic(partial / "config.json", config)
            os.replace(partial, self.path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(self.path.parent)

    def _move_aside(self) -> None:
        if any(self.path.iterdir()) and not (self.path / "config.json").is_file():
            then = "Move it away: it was not made by a run."
            raise DataError(sentence(str(self.path), "must be the folder of a step", "another folder", then))
        if not any(self.path.iterdir()):
            self.path.rmdir()
            return
        previous = self.path.with_name(f"{self.name}.previous")
        if previous.exists():
            shutil.rmtree(previous)
        os.replace(self.path, previous)
        self.moved_aside = previous

    def _finish(self, seconds: float) -> None:
        files = sorted(p for p in self.path.rglob("*") if p.is_file() and not p.name.endswith(".partial"))
        for (
            path
        ) in files:  # DONE on the disk before the weights it vouches for would be a lie after a power cut
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sizes = {str(p.relative_to(self.path)): p.stat().st_size for p in files if p.name not in _OWN}
        done = {"key": self.key, "finished": _now(), "seconds": round(seconds, 3), "files": sizes}
        write_json_atomic(self.path / "DONE", done)


def hash_path(path: str | Path) -> str:
    """The hash of a file's bytes, or of a folder's files and their names; 128 bits, in hexadecimal.

    A folder that a step has finished is known by the key in its DONE, without reading its weights again.

    Raises:
        DataError: there is nothing at the path, or it cannot be read.
    """
    path = Path(path)
    done = _read_or_none(path / "DONE") if path.is_dir() else None
    if done is not None and "key" in done:
        return str(done["key"])
    digest = hashlib.blake2b(digest_size=16)
    try:
        if not path.is_dir():
            _update(digest, path)
            return digest.hexdigest()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            _update(digest, file)
    except OSError as error:
        raise DataError(
            sentence(str(path), "must be a readable file or folder", error.strerror or str(error))
        ) from error
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions a result depends on; torch and transformers only where they are loaded."""
    found = {"python": platform.python_version(), "fivenines": metadata.version("fivenines")}
    for name in ("numpy", "scipy", "torch", "transformers"):
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "__version__"):
            found[name] = str(module.__version__)
    return found


def _update(digest: hashlib.blake2b, path: Path) -> None:
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)


def _described(name: str, value: Any) -> Any:
    """An input as JSON that changes when, and only when, what it stands for changes."""
    if isinstance(value, Step):
        return {"step": value.name, "key": value.key}
    if isinstance(value, Path):
        # Without its folder: a task that was moved, or is named from elsewhere, is still the same task.
        return {"path": value.name, "hash": hash_path(value)}
    if isinstance(value, Mapping):
        return {str(key): _described(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(name, item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    then = "Give what JSON can hold, a Path, or a Step."
    raise DataError(sentence(f"input {name}", "must be hashable by content", type(value).__name__, then))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read_metrics(folder: Path) -> dict[str, Any]:
    value = read_json(folder / "metrics.json")
    if not isinstance(value, dict):
        raise DataError(sentence(str(folder / "metrics.json"), "must be a JSON object", value))
    return value


def _read_or_none(path: Path) -> dict[str, Any] | None:
    """A JSON object that may be missing or foreign; it then counts as absent."""
    try:
        value = read_json(path)
    except DataError:
        return None
    return value if isinstance(value, dict) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
