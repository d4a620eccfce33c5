"""Stores for the tests: SQLite in a file and in memory, and PostgreSQL where a server is given."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fivenines.store import SQLStore


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of an empty schema of its own, dropped afterwards."""
    server = os.environ.get("FIVENINES_TEST_POSTGRESQL")
    if not server:
        pytest.skip("FIVENINES_TEST_POSTGRESQL names no PostgreSQL server")
    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        yield f"{server}?options=-csearch_path%3D{schema}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store that several processes can open."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def store(address: str) -> Iterator[SQLStore]:
    with SQLStore(address) as store:
        yield store
