"""People's work in a database, machines' work in run folders. No torch is loaded here."""

from __future__ import annotations

from fivenines.store.lock import TaskLock
from fivenines.store.protocol import Draw, Guidelines, Item, Progress, Store
from fivenines.store.runs import RunFolder, Step, hash_path, versions
from fivenines.store.sql import SQLStore

__all__ = [
    "Draw",
    "Guidelines",
    "Item",
    "Progress",
    "RunFolder",
    "SQLStore",
    "Step",
    "Store",
    "TaskLock",
    "hash_path",
    "versions",
]
