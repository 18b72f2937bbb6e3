"""Run a store's migrations on the connection that the opener holds; never on a connection of their own."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
