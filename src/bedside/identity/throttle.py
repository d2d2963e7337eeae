"""Slows down guessing: after a few failures each further one doubles the wait, per user and per address."""

from collections import OrderedDict
from dataclasses import dataclass

FREE_PER_USER, FREE_PER_ADDRESS = 3, 12
LONGEST = 900.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    until: float
    last: float


class Throttle:
    """Counts failed sign-ins. Pure but for its own memory: times come in, waits go out, in seconds.

    An unknown user name counts like a known one, so the waits tell nothing. The oldest entries are
    forgotten beyond ``REMEMBERED`` names, so a flood of made-up names can't fill the memory.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait(self, username: str, address: str, now: float) -> float:
        """Seconds until this user from this address may try again; 0: now."""
        until = max(self._until(key) for key in _keys(username, address))
        return max(0.0, until - now)

    def failed(self, username: str, address: str, now: float) -> None:
        for key, free in zip(_keys(username, address), (FREE_PER_USER, FREE_PER_ADDRESS), strict=True):
            count = self._count(key, now) + 1
            delay = min(LONGEST, 2.0 ** (count - free)) if count >= free else 0.0
            self._failures[key] = _Failures(count, now + delay, now)
            self._failures.move_to_end(key)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, username: str, address: str) -> None:
        """Forgets the user's failures, and takes back the one counted in advance for the address: that keeps
        its others, or one good account would open it to guessing."""
        user, place = _keys(username, address)
        self._failures.pop(user, None)
        if found := self._failures.get(place):
            self._failures[place] = _Failures(max(0, found.count - 1), 0.0, found.last)

    def _until(self, key: str) -> float:
        return self._failures[key].until if key in self._failures else 0.0

    def _count(self, key: str, now: float) -> int:
        """Failures so far; a quiet time as long as the longest wait wipes them out."""
        found = self._failures.get(key)
        return found.count if found and now < max(found.until, found.last) + LONGEST else 0


def _keys(username: str, address: str) -> tuple[str, str]:
    return f"user {username}", f"address {address}"
