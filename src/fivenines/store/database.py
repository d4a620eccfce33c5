"""One way to SQLite and PostgreSQL: connect, one writer at a time, and errors in one line."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from fivenines.errors import ResourceError, StoreError, sentence
from fivenines.files import resource_errors

__all__ = ["Database"]

_BUSY_SECONDS = 60.0
# Any number will do that no other application takes: it names the right to write in PostgreSQL.
_WRITER = 0x5_9999
# A writer looks up single rows and the head of the queue. Without statistics, as in the middle of the first
# import, the planner would rather read and join whole tables; for this transaction it is told not to.
_NOT = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_sort")
_ONE_WRITER = text(
    f"SELECT pg_advisory_xact_lock({_WRITER}), " + ", ".join(f"set_config('{n}', 'off', true)" for n in _NOT)
)


class Database:
    """A database of SQLite or PostgreSQL, by URL or by path, in which one transaction writes at a time.

    People type; they do not need writers in parallel, and one writer at a time makes every check that is made
    before a write still true when it is written, on both databases alike. Readers never wait.

    Raises:
        StoreError: an address that cannot be read, or a kind of database that is not known.
        ResourceError: the folder of an SQLite file cannot be made.
    """

    def __init__(self, address: str | Path) -> None:
        self.url = _url(address)
        self.name = _name(self.url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        memory = self.sqlite and self.url.database in (None, "", ":memory:")
        if self.sqlite and not memory and not str(self.url.database).startswith("file:"):  # a URI is no path
            folder = Path(str(self.url.database)).parent
            with resource_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"poolclass": StaticPool} if memory else {}
        if self.sqlite:
            options["connect_args"] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
        else:
            # Plans are made afresh each time: one made while a table was small would be kept while it grows.
            connect = {"connect_timeout": 10, "prepare_threshold": None}
            options |= {"pool_pre_ping": True, "connect_args": connect}
        try:
            self.engine = create_engine(self.url, **options)
        except ModuleNotFoundError as error:
            then = "pip install 'fivenines[postgresql]'."
            raise StoreError(sentence(self.name, "must have its driver", f"no {error.name}", then)) from error
        if self.sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        # A database in memory is one connection, which threads must take in turn.
        self._turn: AbstractContextManager[Any] = threading.RLock() if memory else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database.

        Raises:
            StoreError, ResourceError: in place of any error of the database.
        """
        with self._turn, self._one_line(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction alone in writing; committed whole at the end, or rolled back whole on any error.

        Raises:
            StoreError, ResourceError: in place of any error of the database.
        """
        with self._turn, self._one_line(), self.engine.connect() as plain:
            connection = plain.execution_options(fivenines_write=True)
            with connection.begin():
                if not self.sqlite:
                    connection.execute(_ONE_WRITER)
                yield connection

    def tidy(self, table: str) -> None:
        """After a large change: fresh statistics, and no dead rows at the head of the queue's index."""
        statement = f"ANALYZE {table}" if self.sqlite else f"VACUUM (ANALYZE) {table}"
        with self._turn, self._one_line(), self.engine.connect() as plain:
            connection = plain if self.sqlite else plain.execution_options(isolation_level="AUTOCOMMIT")
            with connection.begin():
                connection.execute(text(statement))

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _explained(self.name, error) from error


def _url(address: str | Path) -> URL:
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() in ("sqlite", "postgresql"):
            url.get_dialect()
            return url
    except (ArgumentError, NoSuchModuleError, ValueError):  # ValueError: a port that is no number
        pass
    then = "Give a path, sqlite:///PATH or postgresql://USER@HOST/NAME."
    # Not the address itself: one that cannot be parsed may hold a password.
    kind = address.split("://", 1)[0]
    raise StoreError(sentence("address of a store", "must name SQLite or PostgreSQL", f"{kind}://...", then))


def _name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or "(in memory)"
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's habits differ between versions
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")  # an answer that was acknowledged survives a power cut
        _switch_to_wal(cursor)
    finally:
        cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Readers and a writer at once. The switch does not wait for others as everything else does."""
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):
                return  # a store on read-only ground can still be read
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("fivenines_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _explained(name: str, error: DBAPIError) -> StoreError | ResourceError:
    """The line for the user in place of the driver's traceback."""
    lines = str(error.orig).strip().splitlines()
    reason = lines[0] if lines else type(error.orig).__name__
    low = reason.lower()
    state = getattr(error.orig, "sqlstate", None)
    if "disk is full" in low or "disk i/o error" in low or state == "53100":
        then = "Free some space and run again: nothing was half-written."
        return ResourceError(sentence(f"store {name}", "must have room on its disk", reason, then))
    if "readonly" in low or state == "25006":
        then = "Allow it, or copy the store to another folder."
        return ResourceError(sentence(f"store {name}", "must be writable", reason, then))
    if "unable to open" in low:
        then = "Check the path and its permissions."
        return ResourceError(sentence(f"store {name}", "must be a file that can be opened", reason, then))
    if "not a database" in low or "malformed" in low:
        then = "Choose another name, or bring back a copy: nothing was written."
        return StoreError(sentence(f"store {name}", "must be an SQLite database", reason, then))
    if "is locked" in low:
        then = "Another process has kept it busy: run again."
        return StoreError(
            sentence(f"store {name}", f"must be free within {_BUSY_SECONDS:.0f} s", reason, then)
        )
    if "append-only" in low:
        return StoreError(sentence(f"store {name}", "must keep what people typed", reason))
    lost = state is None or state[:2] in ("08", "28", "3D", "57")  # connection, login, database, shutdown
    if lost and not isinstance(error.orig, sqlite3.Error):
        then = "Check that the server runs and that the address is right."
        return StoreError(sentence(f"store {name}", "must be reachable", reason, then))
    return StoreError(sentence(f"store {name}", "must accept what is written", reason))
