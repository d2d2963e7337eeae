"""Decides which loaded model makes room for another. Pure: no clock, no lock, no process."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Use:
    """How a loaded model is used: requests that hold it now, and when the last one came or left.

    ``last_used`` is in nanoseconds of a monotonic clock.
    """

    in_flight: int
    last_used: int


def to_unload(target: str, loaded: Mapping[str, Use], limit: int) -> tuple[str, ...] | None:
    """The models to unload so that ``target`` may be loaded beside the rest, longest unused first.

    Empty: there is room, or it is loaded already. ``None``: too many are busy, wait for one to finish.
    A busy model is never named.
    """
    excess = 0 if target in loaded else len(loaded) + 1 - limit
    if excess <= 0:
        return ()
    idle = sorted((use.last_used, name) for name, use in loaded.items() if not use.in_flight)
    return tuple(name for _, name in idle[:excess]) if len(idle) >= excess else None
