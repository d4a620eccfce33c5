"""One run at a time on one task: a lock that the kernel releases, even after kill -9."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from fivenines.errors import LockedError, sentence
from fivenines.files import resource_errors

__all__ = ["TaskLock"]


class TaskLock:
    """Exclusive use of a folder, for the length of a ``with`` block.

    The lock is the kernel's (``flock`` on ``<folder>/.lock``): it ends with the process that holds it,
    however that ends. The file names the holder (process, host, start) so that the one turned
    away knows whom to ask; it stays behind when the lock is released, since deleting it could let two in.

    >>> with TaskLock("injury/"):  # doctest: +SKIP
    ...     ...

    Raises:
        LockedError: another process, or another lock of this process, holds the folder.
        ResourceError: the lock file cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / ".lock"
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        return self._handle is not None

    def acquire(self) -> None:
        """Take the lock or raise; never waits."""
        if self._handle is not None:
            raise self._refusal()
        with resource_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise self._refusal() from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        _held.add(self)
        with resource_errors(self.path):
            self._write_holder(handle)

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        _held.discard(self)
        os.ftruncate(handle, 0)
        fcntl.flock(handle, fcntl.LOCK_UN)  # also where a worker that was just forked still shares the file
        os.close(handle)

    def holder(self) -> str:
        """Who wrote the lock file last, in words."""
        try:
            who = json.loads(self.path.read_text(encoding="utf-8"))
            return f"held by process {who['pid']} on {who['host']} since {who['started']} ({who['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"  # it holds the lock but has not written its name yet

    def _refusal(self) -> LockedError:
        then = "Wait for it to end, or stop it: it can be resumed."
        return LockedError(
            sentence(str(self.folder), "must be used by one run at a time", self.holder(), then)
        )

    def _write_holder(self, handle: int) -> None:
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv))[:200],
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)

    def _forget(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_held: weakref.WeakSet[TaskLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked worker shares the open file, so it would keep the lock alive after its parent was killed.
    for lock in list(_held):
        lock._forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
