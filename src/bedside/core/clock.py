"""Time, randomness and ids come from here, so that a test can set them."""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """``now`` is wall time in seconds since 1970 (UTC); ``tick`` is monotonic, in nanoseconds."""

    def now(self) -> float: ...
    def tick(self) -> int: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def tick(self) -> int:
        return time.monotonic_ns()


@dataclass
class SetClock:
    """A clock that a test or a replay moves by hand; ``advance`` moves both times, in seconds."""

    seconds: float = 1_790_000_000.0
    ticks: int = 0

    def now(self) -> float:
        return self.seconds

    def tick(self) -> int:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.ticks += int(seconds * 1e9)


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-11-22T21:47:03.120Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """A random 128-bit id as 32 hex digits."""
    return secrets.token_hex(16)
