"""Steps from one shape of the database to the next, run by alembic at start when they are due."""
