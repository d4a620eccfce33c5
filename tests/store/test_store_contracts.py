"""The contract of a store, over every kind that we ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fivenines.store import SQLStore, Store
from fivenines.testing.store_contract import StoreContract


class TestSQLiteFile(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with SQLStore(tmp_path / "deep" / "store.db") as store:
            yield store


class TestSQLiteMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with SQLStore.open("sqlite://") as store:
            yield store


class TestPostgreSQL(StoreContract):
    @pytest.fixture
    def store(self, postgresql: str) -> Iterator[Store]:
        with SQLStore(postgresql) as store:
            yield store
