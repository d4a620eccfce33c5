"""Run by alembic: apply the migrations in the transaction that the store has opened."""

from alembic import context

from fivenines.store.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
