"""The store in SQL: SQLite by default, PostgreSQL for a team, the same code on both."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from fivenines.errors import DataError, LabelError, sentence
from fivenines.records import Answer, Comparison, Label, Severity, Snippet
from fivenines.store import queue
from fivenines.store.database import Database
from fivenines.store.imports import ComparisonImport, LabelImport, now
from fivenines.store.migrations import HEAD, current_revision, upgrade
from fivenines.store.protocol import Draw, Guidelines, Item, Progress
from fivenines.store.tables import comparisons, guidelines, items, labels, purposes, snippets

__all__ = ["SQLStore"]

T = TypeVar("T")
_SNIPPET_COLUMNS = (snippets.c.prompt, snippets.c.completion, snippets.c.source, snippets.c.meta)
_CHUNK = 500  # rows a statement; SQLite takes no more than 32,766 values
_LARGE = 5_000  # rows after which the database's own statistics are made anew


class SQLStore:
    """A :class:`~fivenines.store.protocol.Store` in SQLite or PostgreSQL, made or migrated on opening.

    ``address`` is a path, ``sqlite:///PATH``, ``sqlite://`` (in memory) or ``postgresql://USER@HOST/NAME``.
    ``lease_seconds`` is how long an item stays reserved for who asked for it.

    Raises:
        StoreError: not a store, written by a newer version, or a server that cannot be reached.
        ResourceError: disk full, read-only, no permission.
    """

    def __init__(self, address: str | Path, *, lease_seconds: float = 600.0) -> None:
        self.lease_seconds = lease_seconds
        self._database = Database(address)
        try:
            self._bring_up_to_date()
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def open(cls, address: str | Path) -> Self:
        """The same as the constructor, to be read aloud."""
        return cls(address)

    @property
    def name(self) -> str:
        """Where the store is, without a password."""
        return self._database.name

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bring_up_to_date(self) -> None:
        with self._database.read() as connection:  # most often there is nothing to do, and nobody waits
            if current_revision(connection, self.name) == HEAD:
                return
        with self._database.write() as connection:
            upgrade(connection, self.name)

    # What is asked for

    def add_items(
        self,
        purpose: str,
        snippets: Sequence[Snippet],
        draws: Draw | Sequence[Draw] = Draw(),  # noqa: B008 - frozen
        labels_per_item: int = 1,
    ) -> int:
        pairs = _with_draws(purpose, snippets, draws, labels_per_item)
        with self._database.write() as connection:
            _ensure_purpose(connection, purpose)
            new: list[queue.Place] = []
            for chunk in _chunks(pairs):
                new += _add_items(connection, purpose, chunk, labels_per_item)
            if new:
                queue.split_passes(connection, purpose, min(new), max(new))
        if len(new) >= _LARGE:
            self._database.tidy("items")
        return len(new)

    def items(self, purpose: str) -> list[Item]:
        query = _item_query().where(items.c.purpose == purpose).order_by(items.c.id)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query)]

    def purposes(self) -> list[str]:
        with self._database.read() as connection:
            return list(connection.scalars(select(purposes.c.name).order_by(purposes.c.name)))

    def counts(self, purpose: str) -> Progress:
        query = select(purposes.c.size, purposes.c.complete, purposes.c.needed, purposes.c.done).where(
            purposes.c.name == purpose
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return Progress() if row is None else Progress(row.size, row.complete, row.needed, row.done)

    def next_item(self, labeler: str, purpose: str) -> Item | None:
        if not labeler:
            raise LabelError(sentence("labeler", "must have a name", labeler))
        with self._database.write() as connection:
            found = queue.reserve(connection, labeler, purpose, self.lease_seconds)
            if found is None:
                return None
            return _item(connection.execute(_item_query().where(items.c.id == found)).one())

    # What people typed

    def add_labels(self, labels: Iterable[Label], lines: Sequence[int] | None = None) -> int:
        with self._database.write() as connection:
            job = LabelImport(connection, lines)
            for chunk in _chunks(labels):
                job.add(chunk)
            job.finish()
        if job.added >= _LARGE:
            self._database.tidy("items")
            self._database.tidy("labels")
        return job.added

    def labels(self, purpose: str | None = None) -> list[Label]:
        query = select(labels).order_by(labels.c.seq)
        if purpose is not None:
            asked = select(items.c.snippet_id).where(items.c.purpose == purpose)
            query = query.where(labels.c.snippet_id.in_(asked))
        with self._database.read() as connection:
            return [_label(row) for row in connection.execute(query)]

    def add_comparisons(
        self, purpose: str, comparisons: Iterable[Comparison], lines: Sequence[int] | None = None
    ) -> int:
        if not purpose:
            raise DataError(sentence("purpose", "must have a name", purpose))
        with self._database.write() as connection:
            job = ComparisonImport(connection, purpose, lines)
            for chunk in _chunks(comparisons):
                job.add(chunk)
        return job.added

    def comparisons(self, purpose: str | None = None) -> list[Comparison]:
        query = select(comparisons).order_by(comparisons.c.seq)
        if purpose is not None:
            query = query.where(comparisons.c.purpose == purpose)
        with self._database.read() as connection:
            return [_comparison(row) for row in connection.execute(query)]

    def said(self, purpose: str) -> str:
        asked = select(items.c.snippet_id).where(items.c.purpose == purpose)
        queries = (
            select(labels.c.digest).where(labels.c.snippet_id.in_(asked)),
            select(comparisons.c.digest).where(comparisons.c.purpose == purpose),
        )
        with self._database.read() as connection:
            found = sorted(digest for query in queries for digest in connection.scalars(query))
        return hashlib.blake2b("".join(found).encode(), digest_size=16).hexdigest()

    def add_guidelines(self, text: str, author: str = "") -> Guidelines:
        _check_text("guidelines", text, author)
        with self._database.write() as connection:
            query = select(guidelines).order_by(guidelines.c.version.desc()).limit(1)
            latest = connection.execute(query).one_or_none()
            if latest is not None and latest.text == text:
                return Guidelines(*latest)
            new = Guidelines(1 if latest is None else latest.version + 1, text, author, now())
            row = {"version": new.version, "text": text, "author": author, "at": new.at}
            connection.execute(insert(guidelines).values(row))
            return new

    def guidelines(self) -> list[Guidelines]:
        with self._database.read() as connection:
            rows = connection.execute(select(guidelines).order_by(guidelines.c.version))
            return [Guidelines(*row) for row in rows]


def _with_draws(
    purpose: str, snippets: Sequence[Snippet], draws: Draw | Sequence[Draw], labels_per_item: int
) -> list[tuple[Snippet, Draw]]:
    if not purpose:
        raise DataError(sentence("purpose", "must have a name", purpose))
    if labels_per_item < 1:
        raise DataError(sentence("labels_per_item", "must be at least 1", labels_per_item))
    all_draws = [draws] * len(snippets) if isinstance(draws, Draw) else list(draws)
    if len(all_draws) != len(snippets):
        must = f"must be one, or one for each of the {len(snippets)} snippets"
        raise DataError(sentence("draws", must, len(all_draws)))
    for number, (snippet, draw) in enumerate(zip(snippets, all_draws, strict=True), start=1):
        _check_text(f"snippet {number}", snippet.prompt, snippet.completion, snippet.source)
        if draw.inclusion is not None and not 0.0 < draw.inclusion <= 1.0:
            raise DataError(sentence(f"inclusion of snippet {number}", "must lie in (0, 1]", draw.inclusion))
        if not math.isfinite(draw.priority):
            raise DataError(sentence(f"priority of snippet {number}", "must be finite", draw.priority))
    return list(zip(snippets, all_draws, strict=True))


def _check_text(what: str, *texts: str) -> None:
    """Refuse what a database cannot give back as it was: NUL in PostgreSQL, half a surrogate pair in both."""
    for text in texts:
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            must = "must hold no NUL and no lone surrogate"
            raise DataError(sentence(what, must, text, "Clean the text where it was read."))


def _ensure_purpose(connection: Connection, purpose: str) -> None:
    if connection.scalar(select(purposes.c.name).where(purposes.c.name == purpose)) is None:
        row = {"name": purpose, "size": 0, "complete": 0, "needed": 0, "done": 0}
        connection.execute(insert(purposes).values(row))


def _add_items(
    connection: Connection, purpose: str, pairs: Sequence[tuple[Snippet, Draw]], needed: int
) -> list[queue.Place]:
    """Add a chunk; returns the places of the new ones in the queue."""
    wanted: dict[str, tuple[Snippet, Draw]] = {}
    for snippet, draw in pairs:
        wanted.setdefault(snippet.id, (snippet, draw))  # the first of equals wins
    ids = list(wanted)
    stored = set(connection.scalars(select(snippets.c.id).where(snippets.c.id.in_(ids))))
    fresh = [_snippet_row(sid, wanted[sid][0]) for sid in ids if sid not in stored]
    if fresh:
        connection.execute(insert(snippets).returning(snippets.c.id), fresh)
    here = and_(items.c.purpose == purpose, items.c.snippet_id.in_(ids))
    asked = set(connection.scalars(select(items.c.snippet_id).where(here)))
    _raise_needed(connection, purpose, list(asked), needed)
    labelers = _labelers(connection, ids)
    rows = [
        _item_row(purpose, sid, wanted[sid][1], needed, labelers.get(sid, 0))
        for sid in ids
        if sid not in asked
    ]
    if not rows:
        return []
    added = connection.execute(insert(items).returning(items.c.urgency, items.c.id), rows).all()
    change = {
        "size": purposes.c.size + len(rows),
        "needed": purposes.c.needed + needed * len(rows),
        "complete": purposes.c.complete + sum(row["labelers"] >= needed for row in rows),
        "done": purposes.c.done + sum(min(row["labelers"], needed) for row in rows),
    }
    connection.execute(update(purposes).where(purposes.c.name == purpose).values(change))
    return [(row.urgency, row.id) for row in added]


def _raise_needed(connection: Connection, purpose: str, asked: list[str], needed: int) -> None:
    fewer = and_(items.c.purpose == purpose, items.c.snippet_id.in_(asked), items.c.labels_needed < needed)
    was = connection.execute(select(items.c.labels_needed, items.c.labelers).where(fewer)).all()
    if not was:
        return
    connection.execute(update(items).where(fewer).values(labels_needed=needed))
    change = {
        "needed": purposes.c.needed + sum(needed - row.labels_needed for row in was),
        "complete": purposes.c.complete - sum(row.labels_needed <= row.labelers < needed for row in was),
        "done": purposes.c.done
        + sum(min(row.labelers, needed) - min(row.labelers, row.labels_needed) for row in was),
    }
    connection.execute(update(purposes).where(purposes.c.name == purpose).values(change))
    queue.reopen(connection, purpose)


def _labelers(connection: Connection, ids: list[str]) -> dict[str, int]:
    query = (
        select(labels.c.snippet_id, func.count(labels.c.labeler.distinct()))
        .where(labels.c.snippet_id.in_(ids))
        .group_by(labels.c.snippet_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _snippet_row(snippet_id: str, snippet: Snippet) -> dict[str, Any]:
    try:
        meta = json.dumps(dict(snippet.meta), ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            sentence(f"meta of {snippet_id}", "must be what JSON can hold", str(error))
        ) from error
    texts = {"prompt": snippet.prompt, "completion": snippet.completion, "source": snippet.source}
    return {"id": snippet_id, **texts, "meta": meta}


def _item_row(purpose: str, snippet_id: str, draw: Draw, needed: int, labelers: int) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "snippet_id": snippet_id,
        "urgency": 0.0 - draw.priority,
        "distribution": draw.distribution,
        "design": draw.design,
        "inclusion": draw.inclusion,
        "labels_needed": needed,
        "labelers": labelers,
    }


def _item_query() -> Select[Any]:
    return select(items, *_SNIPPET_COLUMNS).join(snippets, snippets.c.id == items.c.snippet_id)


def _item(row: Row[Any]) -> Item:
    snippet = Snippet(row.prompt, row.completion, row.source, json.loads(row.meta))
    draw = Draw(row.distribution, row.design, row.inclusion, 0.0 - row.urgency)
    return Item(snippet, row.purpose, draw, row.labels_needed, row.labelers)


def _label(row: Row[Any]) -> Label:
    severity = None if row.severity is None else Severity(row.severity)
    answer = Answer(row.answer)
    return Label(row.snippet_id, row.labeler, answer, severity, row.at, row.seconds, row.gold, row.note)


def _comparison(row: Row[Any]) -> Comparison:
    return Comparison(
        row.prompt, row.left_text, row.right_text, row.rater, row.preferred, row.at, row.seconds
    )


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
