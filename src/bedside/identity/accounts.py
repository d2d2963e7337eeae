"""Signing in and staying signed in: passwords, sessions, tokens, and who a token belongs to."""

import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass, replace

from bedside.core.clock import Clock, new_id
from bedside.core.errors import BedsideError
from bedside.core.request import Principal, Role
from bedside.core.stores import AccountStore, Session, User
from bedside.identity.passwords import Passwords, check_strength, one_time_password
from bedside.identity.throttle import Throttle
from bedside.identity.tokens import AccessTokens, new_refresh_token, refresh_hash

RECHECK_SECONDS = 1.0
"""How long an account's state is believed before the database is asked again (another program may change it)."""
REMEMBERED = 4096
_USERNAME = re.compile(r"[a-z][a-z0-9._-]{1,63}")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a caller gets: who they are, and tokens. ``expires_in`` in seconds."""

    principal: Principal
    token: str
    refresh_token: str
    expires_in: int


class Accounts:
    """The lock. Every method that fails raises a ``BedsideError``; none says whether a user name exists."""

    def __init__(
        self,
        store: AccountStore,
        tokens: AccessTokens,
        clock: Clock,
        *,
        refresh_hours: int = 24,
        passwords: Passwords | None = None,
    ) -> None:
        self._store, self._tokens, self._clock = store, tokens, clock
        self._passwords = passwords or Passwords()
        self._throttle = Throttle()
        self._refresh_seconds = refresh_hours * 3600
        self._fresh: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def identify(self, token: str | None) -> Principal:
        """Who this access token belongs to. Raises ``TOKEN_MISSING``, ``TOKEN_EXPIRED``, ``TOKEN_INVALID``."""
        if not token:
            raise BedsideError("TOKEN_MISSING")
        claims = self._tokens.read(token)
        found = self._fresh.get(claims.family)
        if found is None or found[0] <= self._seconds():
            found = self._remember(await self._principal(claims.family, claims.user_id))
        if found[1].user_id != claims.user_id:
            raise BedsideError("TOKEN_INVALID")
        return found[1]

    def admit_sign_in(self, username: str, address: str) -> None:
        """Raises ``SIGN_IN_THROTTLED`` while this user or address has to wait."""
        wait = self._throttle.wait(username, address, self._seconds())
        if wait > 0:
            seconds = int(wait) + 1
            raise BedsideError("SIGN_IN_THROTTLED", retry_after=seconds, seconds=seconds)

    async def known_name(self, username: str) -> str | None:
        """The user name if there is such a user: what someone typed into that field may be a password."""
        user = await self._store.user(username) if _USERNAME.fullmatch(username) else None
        return user.username if user else None

    async def sign_in(self, username: str, password: str, address: str) -> SignedIn:
        """Raises ``SIGN_IN_FAILED``, after the same time whatever was wrong, or ``SIGN_IN_THROTTLED``."""
        self.admit_sign_in(username, address)
        # Counted before the slow check and taken back after it, so that guesses sent side by side count too.
        self._throttle.failed(username, address, self._seconds())
        user = await self._store.user(username) if _USERNAME.fullmatch(username) else None
        good = await self._passwords.matches(user.password_hash if user else None, password)
        if user is None or not good or user.disabled:
            raise BedsideError("SIGN_IN_FAILED")
        self._throttle.succeeded(username, address)
        if self._passwords.outdated(user.password_hash):
            better = await self._passwords.hash(password)
            if await self._store.rehash(user.id, user.password_hash, better):
                user = replace(user, password_hash=better)
        return await self._start(user)

    async def renew(self, refresh_token: str) -> SignedIn:
        """New tokens for a refresh token. One used before ends its whole family. Raises ``REFRESH_INVALID``."""
        family = refresh_token.partition(".")[0]
        session = await self._store.session(family)
        if session is None or session.ended or session.expires <= self._clock.now():
            raise BedsideError("REFRESH_INVALID")
        user = await self._store.user_by_id(session.user_id)
        old, (new, new_hash) = refresh_hash(refresh_token), new_refresh_token(family)
        good = hmac.compare_digest(old, session.current_hash) and user is not None and not user.disabled
        if not good or not await self._store.rotate(family, old, new_hash, self._refresh_expiry()):
            await self._end(family)
            raise BedsideError("REFRESH_INVALID")
        assert user is not None  # noqa: S101 - part of ``good``
        return self._signed_in(user, family, new)

    async def owner(self, refresh_token: str) -> str | None:
        """The user name behind a refresh token, good or not any more; for the record."""
        session = await self._store.session(refresh_token.partition(".")[0])
        user = await self._store.user_by_id(session.user_id) if session else None
        return user.username if user else None

    async def sign_out(self, principal: Principal) -> None:
        await self._end(principal.family)

    async def change_password(self, principal: Principal, current: str, new: str, address: str) -> SignedIn:
        """Raises ``SIGN_IN_FAILED``, ``SIGN_IN_THROTTLED``, ``PASSWORD_TOO_WEAK``. Ends all other sessions."""
        self.admit_sign_in(principal.username, address)
        user = await self._store.user_by_id(principal.user_id)
        self._throttle.failed(principal.username, address, self._seconds())
        if user is None or not await self._passwords.matches(user.password_hash, current):
            raise BedsideError("SIGN_IN_FAILED")
        self._throttle.succeeded(principal.username, address)
        check_strength(new, user.username)
        if current == new:
            raise BedsideError("PASSWORD_TOO_WEAK", why="it is the one in use now")
        hashed = await self._passwords.hash(new)
        # Not if an admin has set another one while we were checking.
        if not await self._store.set_password(user.id, hashed, must_change=False, checked=user.password_hash):
            raise BedsideError("SIGN_IN_FAILED")
        self._fresh.clear()
        return await self._start(replace(user, password_hash=hashed, must_change_password=False))

    async def add(self, username: str, role: Role) -> str:
        """Adds a user and returns the one-time password. Raises ``USER_NAME_INVALID``, ``USER_EXISTS``."""
        if not _USERNAME.fullmatch(username):
            raise BedsideError("USER_NAME_INVALID")
        password = one_time_password()
        hashed = await self._passwords.hash(password)
        await self._store.add_user(User(new_id(), username, role, hashed, True, False, self._clock.now()))
        return password

    async def reset_password(self, username: str) -> str:
        """Sets and returns a new one-time password; ends the user's sessions. Raises ``USER_UNKNOWN``."""
        user, password = await self._known(username), one_time_password()
        await self._store.set_password(user.id, await self._passwords.hash(password), must_change=True)
        self._fresh.clear()
        return password

    async def set_disabled(self, username: str, disabled: bool) -> None:
        """Raises ``USER_UNKNOWN``, or ``LAST_ADMIN`` rather than lock everybody out."""
        user = await self._known(username)
        others = [u for u in await self._store.users() if u.role is Role.ADMIN and not u.disabled and u.id != user.id]
        if disabled and user.role is Role.ADMIN and not others:
            raise BedsideError("LAST_ADMIN", name=username)
        await self._store.set_disabled(user.id, disabled)
        self._fresh.clear()

    async def list(self) -> list[User]:
        return await self._store.users()

    def close(self) -> None:
        self._passwords.close()

    async def _known(self, username: str) -> User:
        user = await self._store.user(username)
        if user is None:
            raise BedsideError("USER_UNKNOWN", name=username)
        return user

    async def _principal(self, family: str, user_id: str) -> Principal:
        session, user = await self._store.session(family), await self._store.user_by_id(user_id)
        if session is None or session.ended or session.user_id != user_id or user is None or user.disabled:
            self._fresh.pop(family, None)
            raise BedsideError("TOKEN_INVALID")
        return _principal(user, family)

    def _remember(self, principal: Principal) -> tuple[float, Principal]:
        entry = (self._seconds() + RECHECK_SECONDS, principal)
        self._fresh[principal.family] = entry
        while len(self._fresh) > REMEMBERED:
            self._fresh.popitem(last=False)
        return entry

    async def _start(self, user: User) -> SignedIn:
        family = new_id()
        refresh, hashed = new_refresh_token(family)
        session = Session(family, user.id, hashed, self._refresh_expiry(), False)
        if not await self._store.add_session(session, user.password_hash):
            raise BedsideError("SIGN_IN_FAILED")
        return self._signed_in(user, family, refresh)

    async def _end(self, family: str) -> None:
        await self._store.end_session(family)
        self._fresh.pop(family, None)

    def _signed_in(self, user: User, family: str, refresh: str) -> SignedIn:
        token = self._tokens.issue(user.id, user.role, family)
        return SignedIn(_principal(user, family), token, refresh, self._tokens.seconds)

    def _seconds(self) -> float:
        """Time for waits and for what is believed a while: a clock that is set back must not lengthen either."""
        return self._clock.tick() / 1e9

    def _refresh_expiry(self) -> float:
        return self._clock.now() + self._refresh_seconds


def _principal(user: User, family: str) -> Principal:
    return Principal(user.id, user.username, user.role, family, user.must_change_password)
