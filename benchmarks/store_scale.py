"""Claim: a store with a million labels answers "next item for this person" in under 50 ms, on both databases.

    python benchmarks/store_scale.py                                   SQLite, in a temporary folder
    python benchmarks/store_scale.py postgresql://USER@HOST/EMPTY      PostgreSQL

The store is made hard on purpose. Every item needs two labels. Person ``busy`` gave 60% of the labels,
and the last third of those items nobody else has touched: a plain query would step over 200,000 open items
before the first that is new to ``busy``. Those who ask are

    new      never seen before, each question from another person
    busy     asks, labels, asks again
    fed      asks and labels while batches of higher priority keep coming in
    done     has labelled everything there is and asks again
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection

from fivenines.records import Answer, Label, Snippet
from fivenines.store import Draw, SQLStore
from fivenines.store.database import Database

LIMIT_MS = 50.0
Row = tuple[Any, ...]
AT = "2026-01-01T00:00:00+00:00"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "address", nargs="?", help="an empty database; by default SQLite in a temporary folder"
    )
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        SQLStore(address := options.address or f"sqlite:///{folder}/store.db") as store,
    ):
        build(store, address, options.labels)
        report(measure(store, options.questions))


def build(store: SQLStore, address: str, n: int) -> None:
    """A million labels: 60% by one person, the rest by 40 others on the first two thirds of its items.

    The rows go in as they would lie there after an import, but in bulk: this measures questions, not imports.
    """
    by_one = n * 6 // 10
    snippets = [Snippet(f"Prompt {i} of the benchmark.", f"Completion {i}.") for i in range(by_one + 5_000)]
    ids = [snippet.id for snippet in snippets]
    both = n - by_one
    given = [(sid, "busy") for sid in ids[:by_one]]
    given += [(sid, f"person {i * 40 // both}") for i, sid in enumerate(ids[:both])]
    labelers = [2] * both + [1] * (by_one - both) + [0] * 5_000
    purpose = ("scale", len(ids), both, 2 * len(ids), n)
    tables: dict[str, Iterable[Row]] = {
        "purposes (name, size, complete, needed, done)": [purpose],
        "snippets (id, prompt, completion, source, meta)": (
            (sid, s.prompt, s.completion, "", "{}") for sid, s in zip(ids, snippets, strict=True)
        ),
        "items (purpose, snippet_id, urgency, distribution, design, labels_needed, labelers)": (
            ("scale", sid, 0.0, "", "", 2, count) for sid, count in zip(ids, labelers, strict=True)
        ),
        "labels (digest, snippet_id, labeler, answer, at, gold, note)": (
            (f"label:{i}", sid, who, "ok", AT, False, "") for i, (sid, who) in enumerate(given)
        ),
    }
    start = time.perf_counter()
    database = Database(address)
    with database.write() as connection:
        for table, rows in tables.items():
            write_rows(connection, table, rows)
    database.tidy("items")
    database.tidy("labels")
    database.close()
    seconds = time.perf_counter() - start
    print(f"{n:,} labels on {len(ids):,} items written in {seconds:.0f} s", flush=True)
    timed(
        "import 5,000 labels", 5_000, lambda: store.add_labels(labels(snippets[both : both + 5_000], "late"))
    )
    timed(
        "noting once what 60% of the labels leave over (an import does it)",
        1,
        lambda: store.next_item("busy", "scale"),
    )


def write_rows(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    """The fastest way of each database."""
    cursor = connection.connection.cursor()
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * (table.count(",") + 1))
        cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", list(rows))
        return
    with cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def labels(snippets: list[Snippet], labeler: str) -> Iterator[Label]:
    return (Label(s.id, labeler, Answer.OK, at=AT) for s in snippets)


def timed(what: str, n: int, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.2f} s ({n / seconds:,.0f}/s)", flush=True)


def measure(store: SQLStore, questions: int) -> dict[str, list[float]]:
    """Milliseconds of each question, by kind of person."""
    asked: dict[str, list[float]] = {"new": [], "busy": [], "fed": [], "done": [], "add one label": []}
    for number in range(questions):
        ask(store, f"new {number}", asked["new"])
    for _ in range(questions):
        answer(store, ask(store, "busy", asked["busy"]), "busy", asked["add one label"])
    for number in range(questions):
        if number % 50 == 0:
            batch = [Snippet(f"Urgent {number}.", f"Number {i}.") for i in range(20)]
            store.add_items("scale", batch, Draw(priority=1.0 + number), labels_per_item=2)
        answer(store, ask(store, "busy", asked["fed"]), "busy", asked["add one label"])
    last = [item.snippet for item in store.items("scale")[-6_000:]]  # all that is left for this person
    store.add_labels(labels(last, "busy"))
    for _ in range(questions):
        if ask(store, "busy", asked["done"]) is not None:
            raise SystemExit("a person who has labelled everything was asked again")
    return asked


def ask(store: SQLStore, labeler: str, took: list[float]) -> Snippet | None:
    start = time.perf_counter()
    item = store.next_item(labeler, "scale")
    took.append(1000 * (time.perf_counter() - start))
    return None if item is None else item.snippet


def answer(store: SQLStore, snippet: Snippet | None, labeler: str, took: list[float]) -> None:
    if snippet is None:
        raise SystemExit(f"nothing was left for {labeler}")
    start = time.perf_counter()
    store.add_labels([Label(snippet.id, labeler, Answer.OK)])
    took.append(1000 * (time.perf_counter() - start))


def report(asked: dict[str, list[float]]) -> None:
    print("\n| milliseconds | p50 | p95 | max |\n|---|---|---|---|")
    worst = 0.0
    for kind, took in asked.items():
        ordered = sorted(took)
        p50, p95 = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95))
        print(f"| {kind} | {p50:.1f} | {p95:.1f} | {ordered[-1]:.1f} |")
        if kind != "add one label":
            worst = max(worst, p95)
    verdict = "holds" if worst < LIMIT_MS else "does not hold"
    print(f"\nunder {LIMIT_MS:.0f} ms for 95 of 100 questions of every kind: {verdict} ({worst:.1f} ms)")


if __name__ == "__main__":
    main()
