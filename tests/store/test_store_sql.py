"""The store in SQL: refusals of the database, migrations, errors in one line, several processes."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fivenines.errors import ResourceError, StoreError, UserError
from fivenines.records import Answer, Comparison, Label, Snippet
from fivenines.store import Progress, SQLStore
from fivenines.store.database import Database
from fivenines.store.migrations import HEAD, VERSION_TABLE, alembic_config
from fivenines.store.tables import metadata

SNIPPETS = [Snippet(f"Prompt {i}.", "Completion.") for i in range(20)]


def fill(store: SQLStore) -> None:
    store.add_items("train", SNIPPETS)
    store.add_labels([Label(s.id, "ann", Answer.OK) for s in SNIPPETS[:10]])
    store.add_comparisons("quality", [Comparison("p", "a", "b", "ann", "left")])
    store.add_guidelines("Injuries count.")


@pytest.mark.parametrize("table", ["labels", "comparisons", "guidelines", "snippets"])
def test_the_database_refuses_to_change_what_people_typed(address: str, table: str) -> None:
    with SQLStore(address) as store:
        fill(store)
    column = {"labels": "answer", "comparisons": "preferred", "guidelines": "text", "snippets": "prompt"}[
        table
    ]
    database = Database(address)
    statements = [f"UPDATE {table} SET {column} = 'ok'", f"DELETE FROM {table}"]
    if database.sqlite:
        statements.append(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    else:
        statements.append(f"TRUNCATE {table} CASCADE")
    for statement in statements:
        with pytest.raises(StoreError, match="append-only"), database.write() as connection:
            connection.execute(text(statement))
    with database.read() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() > 0
    database.close()


def test_a_store_is_there_when_opened_again(address: str) -> None:
    with SQLStore(address) as store:
        fill(store)
        before = store.items("train"), store.labels(), store.comparisons(), store.guidelines()
        store.close()  # twice is harmless
    with SQLStore(address) as store:
        assert (store.items("train"), store.labels(), store.comparisons(), store.guidelines()) == before
        assert store.counts("train") == Progress(items=20, complete=10, needed=20, done=10)


def test_labels_note_the_guidelines_of_their_day(address: str) -> None:
    with SQLStore(address) as store:
        store.add_items("train", SNIPPETS)
        for version in (1, 2):
            store.add_guidelines(f"Version {version}.")
            store.add_labels([Label(SNIPPETS[version].id, "ann", Answer.OK)])
    database = Database(address)
    with database.read() as connection:
        noted = connection.execute(text("SELECT guideline FROM labels ORDER BY seq")).scalars().all()
    database.close()
    assert list(noted) == [1, 2]


def test_migrations_lead_to_the_tables(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    SQLStore(address).close()
    database = Database(address)
    with database.read() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    database.close()
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]
    assert capfd.readouterr() == ("", "")


def test_a_store_of_a_newer_version_is_refused(address: str) -> None:
    with SQLStore(address) as store:
        fill(store)
    database = Database(address)
    with database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        connection.execute(text("INSERT INTO fivenines_history VALUES ('0999', '7.5.0', '2030-01-01')"))
    database.close()
    with pytest.raises(
        StoreError, match=r"this version, fivenines .* \(schema 0001\), or an older one"
    ) as caught:
        SQLStore(address)
    assert "got one written by fivenines 7.5.0 (schema 0999). Upgrade fivenines." in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("These are my notes, and not a database.\n" * 100)
    with pytest.raises(StoreError, match=r"store .*store\.db must be an SQLite database"):
        SQLStore(path)
    assert path.read_text().startswith("These are my notes")


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    with pytest.raises(StoreError, match=r"other\.db must be a store of fivenines, got tables \['recipes'\]"):
        SQLStore(path)


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="must be a file that can be opened"):
        SQLStore(tmp_path)


def test_an_unreachable_server() -> None:
    with pytest.raises(
        StoreError, match=r"store postgresql://ann:\*\*\*@127.0.0.1:1/x must be reachable"
    ) as caught:
        SQLStore("postgresql://ann:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_database_on_the_server(postgresql: str) -> None:
    with pytest.raises(StoreError, match=r'must be reachable, got .*database "nowhere" does not exist'):
        SQLStore(postgresql.split("?")[0].rsplit("/", 1)[0] + "/nowhere")


@pytest.mark.parametrize(
    "address", ["mysql://ann:secret@host/x", "postgresql://ann:secret@:bad:/x", "nonsense://"]
)
def test_unknown_addresses(address: str) -> None:
    with pytest.raises(StoreError, match="address of a store must name SQLite or PostgreSQL") as caught:
        SQLStore(address)
    assert "secret" not in str(caught.value)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    with SQLStore(tmp_path / "store.db") as store:
        fill(store)
        before = store.items("train"), store.labels()
        with store._database.engine.connect() as connection:  # the one connection, kept by the pool
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
        with pytest.raises(ResourceError, match="must have room on its disk, got database or disk is full"):
            store.add_items("train", [Snippet(f"{i}" * 500, "x") for i in range(500)])
        assert (store.items("train"), store.labels()) == before


def test_a_store_that_may_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SQLStore(path) as store:
        fill(store)
    with SQLStore(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert len(store.labels()) == 10
        with pytest.raises(ResourceError, match="must be writable, got attempt to write a readonly database"):
            store.add_labels([Label(SNIPPETS[0].id, "bob", Answer.OK)])


def test_opening_loads_no_torch() -> None:
    code = "import sys, fivenines.store, fivenines.labels; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


OPEN_AND_LABEL = """
import sys
from fivenines.records import Answer, Label
from fivenines.store import SQLStore
with SQLStore(sys.argv[1]) as store:
    while (item := store.next_item(sys.argv[2], "train")) is not None:
        store.add_labels([Label(item.snippet.id, sys.argv[2], Answer.OK)])
        print(item.snippet.id, flush=True)
"""


def test_processes_share_a_store(address: str) -> None:
    """Two processes label side by side; no item is labelled twice."""
    with SQLStore(address) as store:
        store.add_items("train", SNIPPETS)
    command = [sys.executable, "-c", OPEN_AND_LABEL, address]
    people = [subprocess.Popen([*command, who], stdout=subprocess.PIPE, text=True) for who in ("ann", "bob")]
    given = [line for person in people for line in person.communicate(timeout=60)[0].split()]
    assert [person.returncode for person in people] == [0, 0]
    assert sorted(given) == sorted(s.id for s in SNIPPETS)


def test_two_processes_make_one_store(address: str) -> None:
    command = [sys.executable, "-c", OPEN_AND_LABEL, address, "ann"]
    makers = [subprocess.Popen(command) for _ in range(2)]
    assert [maker.wait(60) for maker in makers] == [0, 0]
    with SQLStore(address) as store:
        assert store.purposes() == []


IMPORT = """
import sys
from fivenines.records import Answer, Label, Snippet
from fivenines.store import SQLStore
with SQLStore(sys.argv[1]) as store:
    print("open", flush=True)
    for round in range(1000):
        labels = [Label(item.snippet.id, f"round {round}", Answer.OK) for item in store.items("train")]
        store.add_labels(labels)
        print(round, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_kill_leaves_every_import_whole_or_absent(address: str, seed: int) -> None:
    with SQLStore(address) as store:
        store.add_items("train", SNIPPETS)
    process = subprocess.Popen([sys.executable, "-c", IMPORT, address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    time.sleep(random.Random(seed).uniform(0.02, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    told = len(process.communicate()[0].split())
    with SQLStore(address) as store:
        labels = store.labels()
        rounds = {label.labeler for label in labels}
        assert len(labels) == len(SNIPPETS) * len(rounds)
        assert told <= len(rounds) <= told + 1  # all that was acknowledged, and at most the one under way
        assert store.counts("train").done == (len(SNIPPETS) if rounds else 0)


def test_other_errors_of_the_database_are_one_line(address: str) -> None:
    database = Database(address)
    with pytest.raises(UserError) as caught, database.read() as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))
    assert "must accept what is written" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, DBAPIError)
    database.close()
