"""The database engine: one thread writes, one reads, so that SQLite is never fought over.

Plain SQLAlchemy in threads is five times cheaper here than its asyncio layer (see the decision note), and
one writer makes "read, then act on it" safe inside a single ``write``.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from bedside.core.errors import BedsideError

HEAD_REVISION = "0001"
T = TypeVar("T")


class Database:
    """The site's database in ``folder/bedside.db``. Raises ``STORE_CORRUPT``, ``STORE_TOO_NEW``, ``DATA_FOLDER``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bedside.db"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as why:
            raise BedsideError("DATA_FOLDER", path=folder, why=why.strerror) from None
        self._engine = _engine(self.path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="db-read")
        try:
            self._check()
        except DatabaseError as why:
            raise BedsideError("STORE_CORRUPT", path=self.path, why=_cause(why)) from None

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Runs ``work`` in one transaction on the writer thread; durable when it returns."""

        def run() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await self._call(self._writer, run)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs ``work`` on the reader thread."""

        def run() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await self._call(self._reader, run)

    def in_use(self) -> bool:
        """Whether there is any account: then this data folder has a history."""
        with self._engine.connect() as connection:
            return connection.execute(text("SELECT 1 FROM users LIMIT 1")).first() is not None

    def close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._engine.dispose()

    @staticmethod
    async def _call(pool: ThreadPoolExecutor, run: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, run)
        except OperationalError as why:
            raise BedsideError("STORE_UNAVAILABLE", why=_cause(why)) from None

    def _check(self) -> None:
        with self._engine.connect() as connection:
            verdict = connection.execute(text("PRAGMA quick_check")).scalar_one()
            tables = set(inspect(connection).get_table_names())
            revision = _revision(connection) if "alembic_version" in tables else None
        if verdict != "ok":
            raise BedsideError("STORE_CORRUPT", path=self.path, why="its pages do not fit together")
        if revision is None and tables:
            raise BedsideError("STORE_CORRUPT", path=self.path, why="it holds tables of another program")
        if revision != HEAD_REVISION:
            self._migrate(revision)

    def _migrate(self, revision: str | None) -> None:
        from alembic import command  # imported only when due: it takes longer than the rest of the start
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise BedsideError("STORE_TOO_NEW", path=self.path, revision=revision)
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 5, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _revision(connection: Connection) -> str | None:
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(found) if found else None


def _cause(why: DatabaseError) -> str:
    """SQLite's own short sentence; never the statement or its parameters, which SQLAlchemy would add."""
    return str(why.orig)
