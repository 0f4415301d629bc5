"""What Alembic runs: every step that is due, on the connection that `migrate.py` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
