"""The accounts database: what it keeps, and what it says when it can't."""

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect

from bedside.core.clock import SetClock
from bedside.core.errors import BedsideError
from bedside.core.request import Role
from bedside.core.stores import Session, User
from bedside.storage.accounts import SqlAccounts
from bedside.storage.database import Database
from bedside.storage.filelock import exclusive
from bedside.storage.tables import metadata

pytestmark = pytest.mark.anyio


def user(name: str) -> User:
    return User(f"id-{name}", name, Role.STAFF, "hash", False, False, 1.0)


async def test_the_migrations_make_the_tables_that_the_code_expects(tmp_path: Path) -> None:
    database = Database(tmp_path)
    found = inspect(database._engine)
    for table in metadata.sorted_tables:
        columns = {
            column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table.name)
        }
        assert columns == {c.name: (str(c.type), c.nullable) for c in table.columns}
        assert {i["name"] for i in found.get_indexes(table.name)} == {i.name for i in table.indexes}
    database.close()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await SqlAccounts(database, SetClock()).add_user(user("lee"))
    database.close()
    database = Database(tmp_path)
    assert await SqlAccounts(database, SetClock()).user("lee") == user("lee")
    database.close()


async def test_a_refresh_token_is_rotated_by_exactly_one_of_many(tmp_path: Path) -> None:
    database = Database(tmp_path)
    store = SqlAccounts(database, SetClock())
    await store.add_user(user("lee"))
    await store.add_session(Session("f", "id-lee", "old", 2e9, False), "hash")
    won = await asyncio.gather(*(store.rotate("f", "old", f"new{n}", 2e9) for n in range(10)))
    assert sum(won) == 1
    await store.end_session("f")
    session = await store.session("f")
    assert session
    assert not await store.rotate("f", session.current_hash, "newest", 2e9)
    database.close()


async def test_sessions_that_expired_are_forgotten(tmp_path: Path) -> None:
    database, clock = Database(tmp_path), SetClock()
    store = SqlAccounts(database, clock)
    await store.add_user(user("lee"))
    await store.add_session(Session("old", "id-lee", "h", clock.now() + 10, False), "hash")
    clock.advance(60)
    await store.add_session(Session("new", "id-lee", "h", clock.now() + 10, False), "hash")
    assert await store.session("old") is None
    database.close()


async def test_a_database_that_another_program_holds_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """Without the SQL or its values, which the library's own message would show."""
    holder, database = Database(tmp_path), Database(tmp_path)
    held = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = __import__("threading").Event()

    def hold(connection: object) -> None:
        connection.exec_driver_sql("UPDATE users SET role = role")  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(held.set)
        release.wait()

    holding = asyncio.create_task(holder.write(hold))
    await held.wait()
    with pytest.raises(BedsideError) as caught:
        await SqlAccounts(database, SetClock()).add_user(user("lee"))
    release.set()
    await holding
    assert caught.value.code == "STORE_UNAVAILABLE"
    assert "lee" not in str(caught.value)
    holder.close()
    database.close()


async def test_a_lock_keeps_a_second_holder_out_until_it_is_let_go(tmp_path: Path) -> None:
    waited: list[str] = []
    command = "import sys; from pathlib import Path; from bedside.storage.filelock import exclusive\n"
    command += "with exclusive(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        command,
        str(tmp_path / "lock"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdout
    assert other.stdin
    await other.stdout.readline()

    def take() -> None:
        with exclusive(tmp_path / "lock", lambda: waited.append("waiting")):
            waited.append("in")

    taking = asyncio.create_task(asyncio.to_thread(take))
    while not waited:
        await asyncio.sleep(0.01)
    assert waited == ["waiting"]
    other.stdin.close()
    await taking
    assert waited == ["waiting", "in"]
    await other.wait()
