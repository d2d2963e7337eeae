"""Commands that change the data folder: opened, the change recorded like any other, closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def act(action: str, subject: str, work: Callable[..., Awaitable[T]]) -> T:
    """Runs ``work(vault)`` as the operator of this machine, with intent and outcome in the audit log."""
    from bedside.core.clock import SystemClock
    from bedside.gateway.recorded import recorded
    from bedside.operations.configuration import load_settings
    from bedside.vault import open_vault, operator_record

    async def run() -> T:
        return await recorded(vault.audit, operator_record(action, subject), lambda: work(vault))

    vault = open_vault(load_settings(), SystemClock())
    try:
        return asyncio.run(run())
    finally:
        vault.close()
