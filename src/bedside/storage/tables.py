"""The tables, as SQLAlchemy Core sees them. ``migrations/`` makes them; a test compares the two."""

from sqlalchemy import Boolean, Column, Float, ForeignKey, MetaData, String, Table

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("username", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("must_change_password", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Float, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("family", String(32), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id"), nullable=False, index=True),
    Column("current_hash", String(64), nullable=False),
    Column("expires", Float, nullable=False),
    Column("ended", Boolean, nullable=False),
)
