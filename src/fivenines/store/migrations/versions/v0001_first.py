"""The first schema, and the triggers that keep what people typed as they typed it.

A later migration that rebuilds one of the guarded tables (SQLite cannot alter much in place) drops its
triggers, and has to make them again with :func:`guard`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("labelers < labels_needed")
GUARDED = {"snippets": "id", "labels": "digest", "comparisons": "digest", "guidelines": "version"}


def upgrade() -> None:
    _create_asked()
    _create_typed()
    _create_queue()
    for table, key in GUARDED.items():
        guard(table, key)


def guard(table: str, key: str) -> None:
    """Let the database itself refuse to change or remove a row of a table."""
    if op.get_context().dialect.name == "sqlite":
        _guard_sqlite(table, key)
    else:
        _guard_postgresql(table)


def _guard_sqlite(table: str, key: str) -> None:
    refuse = f"SELECT RAISE(ABORT, '{table} is append-only')"
    for event in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} BEGIN {refuse}; END")
    # INSERT OR REPLACE removes the old row without asking the DELETE trigger.
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) BEGIN {refuse}; END"
    )


def _guard_postgresql(table: str) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION fivenines_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for event, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION fivenines_append_only()"
        )


def _create_asked() -> None:
    op.create_table(
        "fivenines_history",
        sa.Column("revision", sa.String(32), primary_key=True),
        sa.Column("fivenines", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )
    op.create_table(
        "snippets",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("completion", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
    )
    op.create_table(
        "purposes",
        sa.Column("name", sa.Text, primary_key=True),
        *(sa.Column(c, sa.BigInteger, nullable=False) for c in ("size", "complete", "needed", "done")),
    )
    op.create_table(
        "items",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("purpose", sa.Text, sa.ForeignKey("purposes.name"), nullable=False),
        sa.Column("snippet_id", sa.String(64), sa.ForeignKey("snippets.id"), nullable=False),
        sa.Column("urgency", sa.Float, nullable=False),
        sa.Column("distribution", sa.Text, nullable=False),
        sa.Column("design", sa.Text, nullable=False),
        sa.Column("inclusion", sa.Float),
        sa.Column("labels_needed", sa.Integer, nullable=False),
        sa.Column("labelers", sa.Integer, nullable=False),
        sa.UniqueConstraint("purpose", "snippet_id", name="items_once"),
    )
    op.create_index("items_by_snippet", "items", ["snippet_id"])
    op.create_index(
        "items_open", "items", ["purpose", "urgency", "id"], sqlite_where=OPEN, postgresql_where=OPEN
    )


def _create_typed() -> None:
    op.create_table(
        "guidelines",
        sa.Column("version", KEY, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("text", "author", "at")),
    )
    op.create_table(
        "labels",
        sa.Column("seq", KEY, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("snippet_id", sa.String(64), sa.ForeignKey("snippets.id"), nullable=False),
        sa.Column("labeler", sa.Text, nullable=False),
        sa.Column("answer", sa.String(16), nullable=False),
        sa.Column("severity", sa.String(16)),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float),
        sa.Column("gold", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("guideline", KEY, sa.ForeignKey("guidelines.version")),
        sa.UniqueConstraint("digest", name="labels_once"),
    )
    op.create_index("labels_by_snippet", "labels", ["snippet_id", "labeler"])
    op.create_table(
        "comparisons",
        sa.Column("seq", KEY, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("pair", sa.String(64), nullable=False),
        *(sa.Column(c, sa.Text, nullable=False) for c in ("prompt", "left_text", "right_text", "rater")),
        sa.Column("preferred", sa.String(16), nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float),
        sa.UniqueConstraint("digest", name="comparisons_once"),
    )
    op.create_index("comparisons_by_pair", "comparisons", ["pair", "rater"])


def _create_queue() -> None:
    op.create_table(
        "leases",
        sa.Column("item_id", KEY, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("labeler", sa.Text, primary_key=True),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_index("leases_by_end", "leases", ["until"])
    op.create_table(
        "passes",
        sa.Column("labeler", sa.Text, primary_key=True),
        sa.Column("purpose", sa.Text, primary_key=True),
        sa.Column("start_urgency", sa.Float, primary_key=True),
        sa.Column("start_id", KEY, primary_key=True),
        sa.Column("end_urgency", sa.Float, nullable=False),
        sa.Column("end_id", KEY, nullable=False),
    )
    op.create_index("passes_by_purpose", "passes", ["purpose"])
    op.create_table(
        "left_open",
        sa.Column("labeler", sa.Text, primary_key=True),
        sa.Column("item_id", KEY, sa.ForeignKey("items.id"), primary_key=True),
    )
