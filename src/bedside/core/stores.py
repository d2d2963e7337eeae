"""Seams through which identity reaches storage, without either importing the other."""

from dataclasses import dataclass
from typing import Protocol

from bedside.core.request import Role


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password_hash`` is an argon2id string; times are seconds since 1970."""

    id: str
    username: str
    role: Role
    password_hash: str
    must_change_password: bool
    disabled: bool
    created: float


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in and all refresh tokens that descend from it. Only the newest token's hash is good.

    ``current_hash`` is the SHA-256 of the refresh token that may be used next; any other token of the
    family is a reuse, and ends the family (RFC 9700, section 4.14.2).
    """

    family: str
    user_id: str
    current_hash: str
    expires: float
    ended: bool


class AccountStore(Protocol):
    """Users and their sessions. Every write is durable when the call returns.

    Raises ``STORE_UNAVAILABLE`` when the database can't be written, ``USER_EXISTS`` on a taken name.
    """

    async def user(self, username: str) -> User | None: ...
    async def user_by_id(self, user_id: str) -> User | None: ...
    async def users(self) -> list[User]: ...
    async def add_user(self, user: User) -> None: ...
    async def set_password(
        self, user_id: str, password_hash: str, must_change: bool, checked: str | None = None
    ) -> bool:
        """Stores the new hash and ends every session of the user, in one step.

        With ``checked`` only if that hash is still the one stored; says whether it was.
        """
        ...

    async def rehash(self, user_id: str, checked: str, password_hash: str) -> bool:
        """Replaces a hash by a better one of the same password, if ``checked`` is still the one stored."""
        ...

    async def set_disabled(self, user_id: str, disabled: bool) -> None:
        """Switches the account; when it goes off, every session of it ends in the same step."""
        ...

    async def session(self, family: str) -> Session | None: ...
    async def add_session(self, session: Session, checked: str) -> bool:
        """Adds it if the user is not off and ``checked`` is still their hash; says whether it was."""
        ...

    async def rotate(self, family: str, old_hash: str, new_hash: str, expires: float) -> bool:
        """Replaces the family's current hash if it is still ``old_hash`` and alive; says whether it was."""
        ...

    async def end_session(self, family: str) -> None: ...
