"""Users and sessions in the database: the implementation of ``core.stores.AccountStore``."""

from typing import Any

from sqlalchemy import Connection, Row, Update, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bedside.core.clock import Clock
from bedside.core.errors import BedsideError
from bedside.core.request import Role
from bedside.core.stores import Session, User
from bedside.storage.database import Database
from bedside.storage.tables import sessions, users


class SqlAccounts:
    """Accounts in SQL. Each method is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

    async def user(self, username: str) -> User | None:
        return await self._db.read(
            lambda c: _user(c.execute(select(users).where(users.c.username == username)).first())
        )

    async def user_by_id(self, user_id: str) -> User | None:
        return await self._db.read(lambda c: _user(c.execute(select(users).where(users.c.id == user_id)).first()))

    async def users(self) -> list[User]:
        rows = await self._db.read(lambda c: c.execute(select(users).order_by(users.c.username)).all())
        return [user for row in rows if (user := _user(row))]

    async def add_user(self, user: User) -> None:
        row = {name: getattr(user, name) for name in users.c.keys()}  # noqa: SIM118 - columns, not a dict
        try:
            await self._db.write(lambda c: c.execute(insert(users).values(**row)))
        except IntegrityError:
            raise BedsideError("USER_EXISTS", name=user.username) from None

    async def set_password(
        self, user_id: str, password_hash: str, must_change: bool, checked: str | None = None
    ) -> bool:
        def work(connection: Connection) -> bool:
            values = {"password_hash": password_hash, "must_change_password": must_change}
            changed = connection.execute(_still(user_id, checked).values(**values)).rowcount == 1
            if changed:
                _end_all(connection, user_id)
            return changed

        return await self._db.write(work)

    async def rehash(self, user_id: str, checked: str, password_hash: str) -> bool:
        change = _still(user_id, checked).values(password_hash=password_hash)
        return await self._db.write(lambda c: c.execute(change).rowcount == 1)

    async def set_disabled(self, user_id: str, disabled: bool) -> None:
        def work(connection: Connection) -> None:
            connection.execute(update(users).where(users.c.id == user_id).values(disabled=disabled))
            if disabled:
                _end_all(connection, user_id)

        await self._db.write(work)

    async def session(self, family: str) -> Session | None:
        return await self._db.read(lambda c: _session(c.execute(select(sessions).where(_is(family))).first()))

    async def add_session(self, session: Session, checked: str) -> bool:
        """Also forgets sessions that expired, so that the table stays small."""
        row = {name: getattr(session, name) for name in sessions.c.keys()}  # noqa: SIM118 - columns, not a dict
        good = select(users.c.id).where(
            users.c.id == session.user_id, users.c.password_hash == checked, ~users.c.disabled
        )

        def work(connection: Connection) -> bool:
            connection.execute(delete(sessions).where(sessions.c.expires < self._clock.now()))
            if connection.execute(good).first() is None:
                return False
            connection.execute(insert(sessions).values(**row))
            return True

        return await self._db.write(work)

    async def rotate(self, family: str, old_hash: str, new_hash: str, expires: float) -> bool:
        change = update(sessions).where(_is(family), sessions.c.current_hash == old_hash, ~sessions.c.ended)
        result = await self._db.write(lambda c: c.execute(change.values(current_hash=new_hash, expires=expires)))
        return result.rowcount == 1

    async def end_session(self, family: str) -> None:
        await self._db.write(lambda c: c.execute(update(sessions).where(_is(family)).values(ended=True)))


def _is(family: str) -> Any:
    return sessions.c.family == family


def _still(user_id: str, checked: str | None) -> Update:
    """A change of the user, if the hash that was checked is still the one stored."""
    change = update(users).where(users.c.id == user_id)
    return change if checked is None else change.where(users.c.password_hash == checked)


def _end_all(connection: Connection, user_id: str) -> None:
    connection.execute(update(sessions).where(sessions.c.user_id == user_id).values(ended=True))


def _user(row: Row[Any] | None) -> User | None:
    return User(**{**row._mapping, "role": Role(row.role)}) if row else None


def _session(row: Row[Any] | None) -> Session | None:
    return Session(**row._mapping) if row else None
