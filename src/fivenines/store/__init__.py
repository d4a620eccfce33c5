"""People's work in a database, machines' work in run folders. No torch is loaded here."""

from __future__ import annotations

from fivenines.store.lock import TaskLock
from fivenines.store.runs import RunFolder, Step, hash_path, versions

__all__ = ["RunFolder", "Step", "TaskLock", "hash_path", "versions"]
