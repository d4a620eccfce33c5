"""The tables of the store as they are now; how they came to be is in ``migrations/versions``.

What people typed, append-only by triggers: ``snippets`` (the text their answers are about), ``labels``,
``comparisons``, ``guidelines``. What the program keeps for its own use: ``items`` and ``purposes`` (what is
asked for, with counters), ``leases`` (who has what in hand), ``passes`` and ``left_open`` (see ``queue.py``).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "OPEN",
    "comparisons",
    "guidelines",
    "history",
    "items",
    "labels",
    "leases",
    "left_open",
    "metadata",
    "passes",
    "purposes",
    "snippets",
]

metadata = MetaData()

# SQLite numbers rows by itself only in a column of type INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")

# An item is open while this holds. Queries must say it in these words for the partial index to serve them.
OPEN = text("labelers < labels_needed")

history = Table(
    "fivenines_history",
    metadata,
    Column("revision", String(32), primary_key=True),
    Column("fivenines", Text, nullable=False),
    Column("at", Text, nullable=False),
)

snippets = Table(
    "snippets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("prompt", Text, nullable=False),
    Column("completion", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("meta", Text, nullable=False),
)

purposes = Table(
    "purposes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("complete", BigInteger, nullable=False),
    Column("needed", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("purpose", Text, ForeignKey("purposes.name"), nullable=False),
    Column("snippet_id", String(64), ForeignKey("snippets.id"), nullable=False),
    Column(
        "urgency", Float, nullable=False
    ),  # minus the priority: the queue is then ascending in both columns
    Column("distribution", Text, nullable=False),
    Column("design", Text, nullable=False),
    Column("inclusion", Float),
    Column("labels_needed", Integer, nullable=False),
    Column("labelers", Integer, nullable=False),
    UniqueConstraint("purpose", "snippet_id", name="items_once"),
    Index("items_by_snippet", "snippet_id"),
    Index("items_open", "purpose", "urgency", "id", sqlite_where=OPEN, postgresql_where=OPEN),
)

guidelines = Table(
    "guidelines",
    metadata,
    Column("version", _Key, primary_key=True),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("at", Text, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("seq", _Key, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("snippet_id", String(64), ForeignKey("snippets.id"), nullable=False),
    Column("labeler", Text, nullable=False),
    Column("answer", String(16), nullable=False),
    Column("severity", String(16)),
    Column("at", Text, nullable=False),
    Column("seconds", Float),
    Column("gold", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("guideline", _Key, ForeignKey("guidelines.version")),
    UniqueConstraint("digest", name="labels_once"),
    Index("labels_by_snippet", "snippet_id", "labeler"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("seq", _Key, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("pair", String(64), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("left_text", Text, nullable=False),
    Column("right_text", Text, nullable=False),
    Column("rater", Text, nullable=False),
    Column("preferred", String(16), nullable=False),
    Column("at", Text, nullable=False),
    Column("seconds", Float),
    UniqueConstraint("digest", name="comparisons_once"),
    Index("comparisons_by_pair", "pair", "rater"),
)

leases = Table(
    "leases",
    metadata,
    Column("item_id", _Key, ForeignKey("items.id"), primary_key=True),
    Column("labeler", Text, primary_key=True),
    Column("until", Float, nullable=False),  # seconds since 1970
    Index("leases_by_end", "until"),
)

passes = Table(
    "passes",
    metadata,
    Column("labeler", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("start_urgency", Float, primary_key=True),
    Column("start_id", _Key, primary_key=True),
    Column("end_urgency", Float, nullable=False),
    Column("end_id", _Key, nullable=False),
    Index("passes_by_purpose", "purpose"),
)

left_open = Table(
    "left_open",
    metadata,
    Column("labeler", Text, primary_key=True),
    Column("item_id", _Key, ForeignKey("items.id"), primary_key=True),
)
