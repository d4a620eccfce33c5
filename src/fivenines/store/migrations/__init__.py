"""Bring a store to the schema of this version, or say why not. Alembic, without a file of the user's."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, inspect, select, text

from fivenines.errors import StoreError, sentence
from fivenines.store.tables import history

__all__ = ["HEAD", "VERSION_TABLE", "alembic_config", "current_revision", "upgrade"]

HEAD = "0001"  # the latest file in versions/; a test holds them together
VERSION_TABLE = "fivenines_version"


def alembic_config() -> Config:
    """The settings of alembic, made here: no alembic.ini, nothing printed, no log handler."""
    config = Config()
    # Percent signs are read as interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def current_revision(connection: Connection, name: str) -> str | None:
    """The schema the database has; None when it holds nothing yet.

    Raises:
        StoreError: the database holds the tables of something else.
    """
    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE):
        return str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one())
    foreign = set(inspector.get_table_names())
    if connection.dialect.name == "postgresql":  # a server's database may hold more than one application
        foreign &= {"snippets", "items", "labels"}
    if foreign:
        then = "Choose another name: nothing was written."
        raise StoreError(
            sentence(name, "must be a store of fivenines", f"tables {sorted(foreign)[:3]}", then)
        )
    return None


def upgrade(connection: Connection, name: str) -> None:
    """Bring the database to :data:`HEAD`, in the caller's transaction.

    Raises:
        StoreError: a newer version of fivenines wrote the store, or it is not a store.
    """
    revision = current_revision(connection, name)
    if revision == HEAD:
        return
    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise _newer(connection, name, revision)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.scalar(select(func.count()).where(history.c.revision == HEAD)) == 0:
        row = {"revision": HEAD, "fivenines": metadata.version("fivenines"), "at": _now()}
        connection.execute(insert(history).values(row))


def _newer(connection: Connection, name: str, revision: str) -> StoreError:
    writer = connection.scalar(select(history.c.fivenines).where(history.c.revision == revision))
    must = (
        f"must have been written by this version, fivenines {metadata.version('fivenines')} (schema {HEAD})"
    )
    got = f"one written by fivenines {writer or 'of a later version'} (schema {revision})"
    return StoreError(sentence(f"store {name}", f"{must}, or an older one", got, "Upgrade fivenines."))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
