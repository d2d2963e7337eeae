"""What alembic runs: the connection comes from ``storage/database.py``, which owns the database."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
