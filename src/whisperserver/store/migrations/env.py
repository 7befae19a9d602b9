"""Alembic's entry: `store.database.migrate` hands over the connection."""

from advanced_alchemy.base import orm_registry
from alembic import context

from whisperserver.store import models  # noqa: F401 - its import names the tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=orm_registry.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
