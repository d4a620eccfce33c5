"""Taking in what people typed: every row checked inside the transaction that writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from fivenines.errors import DataError, LabelError, sentence
from fivenines.records import Answer, Comparison, Label, Severity, content_id
from fivenines.store import queue
from fivenines.store.tables import comparisons, guidelines, items, labels, purposes, snippets

__all__ = ["ComparisonImport", "LabelImport", "now"]


class LabelImport:
    """Labels on their way into the store, a chunk at a time, in one transaction of the caller's."""

    def __init__(self, connection: Connection, lines: Sequence[int] | None) -> None:
        self.added = 0
        self._connection = connection
        self._lines = lines
        self._seen = 0
        self._stamp = now()
        self._guideline = connection.scalar(select(func.max(guidelines.c.version)))
        self._touched: set[tuple[str, str]] = set()  # (labeler, purpose)

    def add(self, chunk: Sequence[Label]) -> None:
        """Check and write some labels.

        Raises:
            LabelError: see :meth:`fivenines.store.protocol.Store.add_labels`.
        """
        ids = list({label.snippet_id for label in chunk})
        known = set(self._connection.scalars(select(snippets.c.id).where(snippets.c.id.in_(ids))))
        before = self._labels_of(ids)
        rows: list[dict[str, Any]] = []
        first_by: Counter[str] = Counter()  # snippet id -> people who label it for the first time
        pairs: set[tuple[str, str]] = set()
        for label in chunk:
            place = self._place()
            _check(label, known, place)
            ours = before[label.snippet_id]
            label = self._timed(label, ours, place)
            if any(_digest(label) == _digest(other) for other in ours):
                continue
            _check_gold(label, ours, place)
            if all(other.labeler != label.labeler for other in ours):
                first_by[label.snippet_id] += 1
            pairs.add((label.snippet_id, label.labeler))
            ours.append(label)
            rows.append(_label_row(label, self._guideline))
        if rows:
            # RETURNING makes it one statement for many rows on both databases.
            self._connection.execute(insert(labels).returning(labels.c.seq), rows)
            self._count(first_by, pairs)
            self.added += len(rows)

    def finish(self) -> None:
        """Once, after the last chunk: leave the queue so that the next question is answered at once."""
        for labeler, purpose in sorted(self._touched):
            queue.advance(self._connection, labeler, purpose)

    def _place(self) -> str:
        self._seen += 1
        if self._lines is None:
            return f"label {self._seen}"
        return f"label on line {self._lines[self._seen - 1]}"

    def _labels_of(self, ids: list[str]) -> dict[str, list[Label]]:
        found: dict[str, list[Label]] = {snippet_id: [] for snippet_id in ids}
        rows = self._connection.execute(select(labels).where(labels.c.snippet_id.in_(ids)))
        for row in sorted(
            rows, key=lambda row: row.seq
        ):  # here, lest a planner walk all labels in this order
            severity = None if row.severity is None else Severity(row.severity)
            found[row.snippet_id].append(
                Label(
                    row.snippet_id,
                    row.labeler,
                    Answer(row.answer),
                    severity,
                    row.at,
                    None,
                    row.gold,
                    row.note,
                )
            )
        return found

    def _timed(self, label: Label, ours: Sequence[Label], place: str) -> Label:
        """The label with its time in one notation; without a time, that of what it repeats, or now."""
        if label.at:
            return replace(label, at=_utc(label.at, place))
        said = [other for other in ours if other.labeler == label.labeler]
        if said:
            latest = max(enumerate(said), key=lambda pair: (pair[1].at, pair[0]))[1]
            if _digest(replace(label, at=latest.at)) == _digest(latest):
                return replace(label, at=latest.at)
        return replace(label, at=self._stamp)

    def _count(self, first_by: Counter[str], pairs: set[tuple[str, str]]) -> None:
        """Bring the counters of items and purposes up to date, and end the reservations."""
        query = select(items.c.purpose, items.c.snippet_id, items.c.labels_needed, items.c.labelers)
        asked = list({snippet_id for snippet_id, _ in pairs})
        found = self._connection.execute(query.where(items.c.snippet_id.in_(asked))).all()
        complete: Counter[str] = Counter()
        done: Counter[str] = Counter()
        for row in found:
            after = row.labelers + first_by[row.snippet_id]
            complete[row.purpose] += row.labelers < row.labels_needed <= after
            done[row.purpose] += min(after, row.labels_needed) - min(row.labelers, row.labels_needed)
        for more in set(first_by.values()):  # nearly always 1: one statement for the chunk
            which = items.c.snippet_id.in_([sid for sid, n in first_by.items() if n == more])
            self._connection.execute(update(items).where(which).values(labelers=items.c.labelers + more))
        for name in done:
            sums = {"complete": purposes.c.complete + complete[name], "done": purposes.c.done + done[name]}
            self._connection.execute(update(purposes).where(purposes.c.name == name).values(sums))
        queue.drop_leases(self._connection, pairs)
        purposes_of: dict[str, set[str]] = {}
        for row in found:
            purposes_of.setdefault(row.snippet_id, set()).add(row.purpose)
        for snippet_id, labeler in pairs:
            self._touched |= {(labeler, purpose) for purpose in purposes_of.get(snippet_id, ())}


class ComparisonImport:
    """Comparisons on their way into the store, a chunk at a time, in one transaction of the caller's."""

    def __init__(self, connection: Connection, purpose: str, lines: Sequence[int] | None) -> None:
        self.added = 0
        self._connection = connection
        self._purpose = purpose
        self._lines = lines
        self._seen = 0
        self._stamp = now()

    def add(self, chunk: Sequence[Comparison]) -> None:
        """Check and write some comparisons.

        Raises:
            LabelError: no rater, or a time that cannot be read.
        """
        pairs = list({_pair(one) for one in chunk})
        query = select(comparisons).where(
            comparisons.c.pair.in_(pairs), comparisons.c.purpose == self._purpose
        )
        before: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (pair, rater) -> [(at, digest), ...]
        for row in sorted(self._connection.execute(query), key=lambda row: row.seq):
            before.setdefault((row.pair, row.rater), []).append((row.at, row.digest))
        rows = []
        for one in chunk:
            self._seen += 1
            number = self._seen if self._lines is None else self._lines[self._seen - 1]
            place = f"comparison {number}" if self._lines is None else f"comparison on line {number}"
            if not one.rater:
                raise LabelError(sentence(place, "must name its rater", one.rater))
            said = before.setdefault((_pair(one), one.rater), [])
            at = _utc(one.at, place) if one.at else (max(said)[0] if said else self._stamp)
            digest = self._digest(one, at)
            if not one.at and said and digest != max(said, key=lambda pair: pair[0])[1]:
                at, digest = self._stamp, self._digest(one, self._stamp)
            if any(digest == known for _, known in said):
                continue
            said.append((at, digest))
            rows.append(self._row(one, at, digest))
        if rows:
            self._connection.execute(insert(comparisons).returning(comparisons.c.seq), rows)
            self.added += len(rows)

    def _digest(self, one: Comparison, at: str) -> str:
        parts = (self._purpose, one.prompt, one.left, one.right, one.rater, one.preferred, at)
        return content_id("comparison", *parts)

    def _row(self, one: Comparison, at: str, digest: str) -> dict[str, Any]:
        return {
            "digest": digest,
            "purpose": self._purpose,
            "pair": _pair(one),
            "prompt": one.prompt,
            "left_text": one.left,
            "right_text": one.right,
            "rater": one.rater,
            "preferred": one.preferred,
            "at": at,
            "seconds": one.seconds,
        }


def now() -> str:
    """This moment, UTC, ISO 8601 with microseconds: it also orders."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _utc(at: str, place: str) -> str:
    """A time in the one notation in which times compare as text. Without a zone it is taken as UTC."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise LabelError(sentence(f"time of {place}", "must be ISO 8601", at)) from error
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return zoned.isoformat(timespec="microseconds")


def _check(label: Label, known: set[str], place: str) -> None:
    if label.snippet_id not in known:
        then = "Add the snippet first, or mend its id."
        raise LabelError(
            sentence(f"snippet of {place}", "must be known to the store", label.snippet_id, then)
        )
    if not label.labeler:
        raise LabelError(sentence(place, "must name its labeler", label.labeler))
    try:
        Answer(label.answer)
        if label.severity is not None:
            Severity(label.severity)
    except ValueError as error:
        raise LabelError(sentence(place, "must hold a known answer and severity", str(error))) from error
    if "\0" in label.note + label.labeler:
        raise DataError(sentence(place, "must hold no NUL", label.note))


def _check_gold(label: Label, ours: Sequence[Label], place: str) -> None:
    """Only who gave the gold answer may correct it, by a later time."""
    if not label.gold:
        return
    for other in ours:
        corrects = other.labeler == label.labeler and other.at != label.at
        if other.gold and other.answer != label.answer and not corrects:
            gold = f"{other.answer!s} of {other.labeler}"
            must = f"must agree with the gold answer of {other.snippet_id}, {gold}"
            then = "Settle it first: nothing was imported."
            raise LabelError(sentence(f"gold {place}", must, f"{label.answer!s} of {label.labeler}", then))


def _digest(label: Label) -> str:
    severity = "" if label.severity is None else label.severity
    parts = (label.snippet_id, label.labeler, label.answer, severity, label.at, str(label.gold), label.note)
    return content_id("label", *parts)


def _label_row(label: Label, guideline: int | None) -> dict[str, Any]:
    return {
        "digest": _digest(label),
        "snippet_id": label.snippet_id,
        "labeler": label.labeler,
        "answer": str(label.answer),
        "severity": None if label.severity is None else str(label.severity),
        "at": label.at,
        "seconds": label.seconds,
        "gold": label.gold,
        "note": label.note,
        "guideline": guideline,
    }


def _pair(one: Comparison) -> str:
    """The pair, whichever text was shown on the left."""
    return content_id("pair", one.prompt, *sorted((one.left, one.right)))
