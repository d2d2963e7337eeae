"""Passwords: argon2id with the second recommended option of RFC 9106 (64 MiB, 3 passes, 4 lanes)."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.profiles import RFC_9106_LOW_MEMORY

from bedside.core.errors import BedsideError

T = TypeVar("T")
SHORTEST, LONGEST = 12, 256
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class Passwords:
    """Hashes and checks in one thread of its own: each takes about 0.1 s and 64 MiB, so never many at once."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        return await self._run(self._hasher.hash, password)

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is right. ``None`` (no such user) takes as long as a wrong password."""
        return await self._run(self._matches, password_hash, password)

    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash(secrets.token_hex(16))
        try:
            self._hasher.verify(password_hash or self._nobody, password)
        except (Argon2Error, InvalidHashError):
            return False
        return password_hash is not None

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)


def one_time_password() -> str:
    """Twenty random characters that are easy to read out: about 99 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def check_strength(password: str, username: str) -> None:
    """NIST SP 800-63B section 3.1.1.2: length counts, composition rules do not. Raises ``PASSWORD_TOO_WEAK``."""
    lowered = password.lower()
    if len(password) < SHORTEST:
        raise BedsideError("PASSWORD_TOO_WEAK", why=f"it has fewer than {SHORTEST} characters")
    if len(password) > LONGEST:
        raise BedsideError("PASSWORD_TOO_WEAK", why=f"it has more than {LONGEST} characters")
    if username in lowered or len(set(lowered)) < 5 or any(word in lowered for word in _COMMON):
        raise BedsideError("PASSWORD_TOO_WEAK", why="it is easy to guess")


_COMMON = ("password", "passw0rd", "12345678", "qwertyui", "letmein", "welcome1", "iloveyou", "bedside")
