"""Recorded before it is done, closed after it: the rule for every act that is not a model's."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from bedside.audit.events import AuditRecord, Kind, Outcome
from bedside.audit.log import AuditLog
from bedside.core.errors import BedsideError
from bedside.identity.actions import ACTIONS, Sort

T = TypeVar("T")


async def recorded(audit: AuditLog, record: AuditRecord, work: Callable[[], Awaitable[T]]) -> T:
    """Does ``work`` once ``record`` is durable. A change gets an outcome record as well.

    Raises ``AUDIT_UNAVAILABLE``, and then ``work`` was not called, and whatever ``work`` raises.
    """
    if ACTIONS[record.action].sort is Sort.READ:
        await audit.append(replace(record, kind=Kind.EVENT))
        return await work()
    await audit.append(replace(record, kind=Kind.INTENT))
    try:
        result = await work()
    except BaseException as why:
        await close_failed(audit, record, why)
        raise
    await audit.append(replace(record, kind=Kind.OUTCOME, outcome=Outcome.OK))
    return result


def recorded_blocking(audit: AuditLog, record: AuditRecord, work: Callable[[], T]) -> T:
    """The same for a change that blocks for minutes, where no event loop runs."""
    asyncio.run(audit.append(replace(record, kind=Kind.INTENT)))
    try:
        result = work()
    except BaseException as why:
        asyncio.run(close_failed(audit, record, why))
        raise
    asyncio.run(audit.append(replace(record, kind=Kind.OUTCOME, outcome=Outcome.OK)))
    return result


async def close_failed(audit: AuditLog, record: AuditRecord, why: BaseException, *, closing: bool = False) -> None:
    """Writes how it failed. ``closing``: the gateway is shutting down, so it was not the client who left.

    ``append`` hands the record to its writer before it waits, so a second cancellation can't lose it; and if
    the disk is gone, the first error is the one to show.
    """
    stopped = isinstance(why, GeneratorExit | asyncio.CancelledError)
    outcome = Outcome.CLIENT_GONE if stopped and not closing else Outcome.FAILED
    reason = None if outcome is Outcome.CLIENT_GONE else _code(why)
    with suppress(BedsideError):
        await audit.append(replace(record, kind=Kind.OUTCOME, outcome=outcome, reason=reason))


def _code(why: BaseException) -> str:
    if isinstance(why, BedsideError):
        return why.code
    return "INTERNAL" if isinstance(why, Exception) else "INTERRUPTED"


async def refused(audit: AuditLog, record: AuditRecord, reason: str) -> None:
    """Someone who is known was turned away."""
    await audit.append(replace(record, kind=Kind.EVENT, outcome=Outcome.REFUSED, reason=reason))
