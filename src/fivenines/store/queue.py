"""Who labels what next, at a cost that does not grow with the store.

The queue of a purpose is its open items (those that still need labels), ordered by (urgency, id); a partial
index holds exactly these. The first open item is therefore found at once, except that nobody must get what
they have labelled already, and these items stay open as long as others owe their labels: a busy person could
have a million of them before the first that is new.

So the store remembers, for each person and purpose, *passes*: stretches ``[start, end)`` of the queue in
which nothing is left for this person, now or later. A search leaps over them and lengthens them as it goes,
so that every item is looked at once a person, not once a question. Items that are passed while somebody else
has them in hand may come back; they are noted in *left_open* and looked at first. New items that fall into a
pass split it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
)

from fivenines.store.tables import OPEN, items, labels, leases, left_open, passes

__all__ = ["advance", "drop_leases", "reopen", "reserve", "split_passes"]

Place = tuple[float, int]  # (urgency, id): a place in the queue of a purpose
_START: Place = (-math.inf, 0)


@dataclass(frozen=True, slots=True)
class _Asker:
    """One question: who asks, for which purpose, and when."""

    labeler: str
    purpose: str
    now: float

    @property
    def open_to(self) -> ColumnElement[bool]:
        """Open, of the purpose, and not labelled by the asker. Once false it stays false."""
        # A count, not NOT EXISTS: that becomes a join, for which a planner may read all labels of a person.
        mine = (
            select(func.count())
            .where(labels.c.snippet_id == items.c.snippet_id, labels.c.labeler == self.labeler)
            .scalar_subquery()
        )
        return and_(items.c.purpose == self.purpose, OPEN, mine == 0)

    @property
    def available(self) -> ColumnElement[bool]:
        """And no more people have it in hand than it needs labels."""
        others = (
            select(func.count())
            .where(
                leases.c.item_id == items.c.id, leases.c.labeler != self.labeler, leases.c.until > self.now
            )
            .scalar_subquery()
        )
        return and_(self.open_to, items.c.labelers + others < items.c.labels_needed)


def reserve(connection: Connection, labeler: str, purpose: str, lease_seconds: float) -> int | None:
    """The item this person has in hand, or else the first that is left, reserved."""
    asker = _Asker(labeler, purpose, time.time())
    connection.execute(delete(leases).where(leases.c.until <= asker.now))
    found = _in_hand(connection, asker)
    if found is None:
        found = _first(connection, asker)
    if found is None:
        return None
    mine = and_(leases.c.item_id == found, leases.c.labeler == labeler)
    connection.execute(delete(leases).where(mine))
    row = {"item_id": found, "labeler": labeler, "until": asker.now + lease_seconds}
    connection.execute(insert(leases).values(row))
    return found


def advance(connection: Connection, labeler: str, purpose: str) -> None:
    """Lengthen the passes of a person who has just labelled, so that the next question has a short way."""
    _first(connection, _Asker(labeler, purpose, time.time()))


def drop_leases(connection: Connection, done: set[tuple[str, str]]) -> None:
    """End the reservations of (snippet id, labeler) pairs that have been labelled."""
    held = connection.execute(
        select(leases.c.item_id, leases.c.labeler, items.c.snippet_id).join(
            items, items.c.id == leases.c.item_id
        )
    ).all()  # few: at most one a person and purpose
    for item_id, labeler, snippet_id in held:
        if (snippet_id, labeler) in done:
            connection.execute(delete(leases).where(leases.c.item_id == item_id, leases.c.labeler == labeler))


def split_passes(connection: Connection, purpose: str, first: Place, last: Place) -> None:
    """Open the stretch from ``first`` to ``last`` again for everybody: new items have come to lie in it."""
    after = (last[0], last[1] + 1)
    end, start = (
        tuple_(passes.c.end_urgency, passes.c.end_id),
        tuple_(passes.c.start_urgency, passes.c.start_id),
    )
    meets = and_(passes.c.purpose == purpose, end > _at(first), start < _at(after))
    for row in connection.execute(select(passes).where(meets)).all():
        _forget_pass(connection, row)
        if _start(row) < first:
            _remember_pass(connection, row.labeler, purpose, _start(row), first)
        if after < _end(row):
            _remember_pass(connection, row.labeler, purpose, after, _end(row))


def reopen(connection: Connection, purpose: str) -> None:
    """Forget all passes of a purpose: its items need more labels than before."""
    connection.execute(delete(passes).where(passes.c.purpose == purpose))


def _in_hand(connection: Connection, asker: _Asker) -> int | None:
    held = connection.scalars(select(leases.c.item_id).where(leases.c.labeler == asker.labeler)).all()
    query = select(items.c.urgency, items.c.id).where(items.c.id.in_(held), asker.open_to)
    found = connection.execute(_ordered(query)).one_or_none() if held else None
    return None if found is None else found.id


def _first(connection: Connection, asker: _Asker) -> int | None:
    """The first available item, by the notes of what was left open and by a search that leaps over passes."""
    noted = _first_left_open(connection, asker)
    found = _search(connection, asker)
    candidates = [(row.urgency, row.id) for row in (noted, found) if row is not None]
    return min(candidates)[1] if candidates else None


def _first_left_open(connection: Connection, asker: _Asker) -> Row[tuple[float, int]] | None:
    mine = left_open.c.labeler == asker.labeler
    noted = connection.scalars(select(left_open.c.item_id).where(mine)).all()
    if not noted:
        return None
    query = select(items.c.urgency, items.c.id).where(items.c.id.in_(noted), asker.available)
    found = connection.execute(_ordered(query)).one_or_none()
    if found is None:  # drop the notes that have become idle, so that they are not read again
        of_purpose = and_(items.c.id.in_(noted), items.c.purpose == asker.purpose)
        there = set(connection.scalars(select(items.c.id).where(of_purpose)))
        idle = there - set(connection.scalars(select(items.c.id).where(items.c.id.in_(noted), asker.open_to)))
        connection.execute(delete(left_open).where(mine, left_open.c.item_id.in_(idle)))
    return found


def _search(connection: Connection, asker: _Asker) -> Row[tuple[float, int]] | None:
    mine = and_(passes.c.labeler == asker.labeler, passes.c.purpose == asker.purpose)
    query = select(passes).where(mine).order_by(passes.c.start_urgency, passes.c.start_id)
    known = list(connection.execute(query).all())
    place, leapt, found = _START, 0, None
    for stretch in known:
        found = _available_between(connection, asker, place, _start(stretch))
        if found is not None:
            break
        place, leapt = _end(stretch), leapt + 1
    else:
        found = _available_between(connection, asker, place, None)
    until = (found.urgency, found.id) if found is not None else _end_of_queue(connection, asker.purpose)
    if until is not None:
        _lengthen(connection, asker, known[:leapt], until)
    return found


def _available_between(
    connection: Connection, asker: _Asker, place: Place, stop: Place | None
) -> Row[tuple[float, int]] | None:
    if stop is not None and stop <= place:
        return None
    for stretch in _stretches(place, stop):
        query = select(items.c.urgency, items.c.id).where(asker.available, *stretch)
        found = connection.execute(_ordered(query)).one_or_none()
        if found is not None:
            return found
    return None


def _stretches(place: Place, stop: Place | None) -> Iterator[list[ColumnElement[bool]]]:
    """The way from ``place`` to ``stop``, cut so that each part is one range of the index.

    ``(urgency, id) >= (?, ?)`` says it in one, but SQLite then seeks by the urgency alone, and most items
    have the same.
    """
    urgency, order = items.c.urgency, items.c.id
    if stop is not None and stop[0] == place[0]:
        yield [urgency == place[0], order >= place[1], order < stop[1]]
        return
    if math.isfinite(place[0]):
        yield [urgency == place[0], order >= place[1]]
    if stop is None:
        yield [urgency > place[0]]
    else:
        yield [urgency > place[0], urgency < stop[0]]
        yield [urgency == stop[0], order < stop[1]]


def _lengthen(
    connection: Connection, asker: _Asker, leapt: Sequence[Row[tuple[object, ...]]], until: Place
) -> None:
    """Make one pass of all that was found empty, from the start of the queue to ``until``."""
    if until == _START or (len(leapt) == 1 and _start(leapt[0]) == _START and _end(leapt[0]) >= until):
        return
    if leapt:
        until = max(until, _end(leapt[-1]))
    _note_left_open(connection, asker, until)
    for row in leapt:
        _forget_pass(connection, row)
    _remember_pass(connection, asker.labeler, asker.purpose, _START, until)


def _note_left_open(connection: Connection, asker: _Asker, until: Place) -> None:
    """Items before ``until`` that are passed only because somebody else has them in hand."""
    held = connection.scalars(select(leases.c.item_id).distinct()).all()
    if not held:
        return
    query = select(items.c.id).where(
        items.c.id.in_(held), asker.open_to, tuple_(items.c.urgency, items.c.id) < _at(until)
    )
    noted = set(connection.scalars(select(left_open.c.item_id).where(left_open.c.labeler == asker.labeler)))
    rows = [{"labeler": asker.labeler, "item_id": i} for i in connection.scalars(query) if i not in noted]
    if rows:
        connection.execute(insert(left_open), rows)


def _end_of_queue(connection: Connection, purpose: str) -> Place | None:
    """Just behind the last open item."""
    query = (
        select(items.c.urgency, items.c.id)
        .where(items.c.purpose == purpose, OPEN)
        .order_by(items.c.urgency.desc(), items.c.id.desc())
        .limit(1)
    )
    last = connection.execute(query).one_or_none()
    return None if last is None else (last.urgency, last.id + 1)


def _ordered(query: Select[tuple[float, int]]) -> Select[tuple[float, int]]:
    return query.order_by(items.c.urgency, items.c.id).limit(1)


def _at(place: Place) -> ColumnElement[tuple[float, int]]:
    return tuple_(literal(place[0]), literal(place[1]))


def _start(row: Row[tuple[object, ...]]) -> Place:
    return (row.start_urgency, row.start_id)


def _end(row: Row[tuple[object, ...]]) -> Place:
    return (row.end_urgency, row.end_id)


def _remember_pass(connection: Connection, labeler: str, purpose: str, start: Place, end: Place) -> None:
    row = {"labeler": labeler, "purpose": purpose, "start_urgency": start[0], "start_id": start[1]}
    connection.execute(insert(passes).values(row | {"end_urgency": end[0], "end_id": end[1]}))


def _forget_pass(connection: Connection, row: Row[tuple[object, ...]]) -> None:
    start = and_(passes.c.start_urgency == row.start_urgency, passes.c.start_id == row.start_id)
    connection.execute(
        delete(passes).where(passes.c.labeler == row.labeler, passes.c.purpose == row.purpose, start)
    )
