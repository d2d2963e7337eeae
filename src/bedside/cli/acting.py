"""Commands that change something: the change is recorded before it is made, and closed after it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bedside.vault import Vault

T = TypeVar("T")


def act(action: str, subject: str, work: Callable[["Vault"], Awaitable[T]]) -> T:
    """Runs ``work(vault)`` as the operator of this machine, with intent and outcome in the audit log."""
    from bedside.gateway.recorded import recorded
    from bedside.vault import operator_record

    with vault_here() as vault:

        async def run() -> T:
            return await recorded(vault.audit, operator_record(action, subject), lambda: work(vault))

        return asyncio.run(run())


def act_long(action: str, subject: str, work: Callable[[], T]) -> T:
    """The same for work that blocks for minutes: outside an event loop, so that Ctrl-C reaches it at once."""
    from bedside.gateway.recorded import recorded_blocking
    from bedside.vault import operator_record

    with vault_here() as vault:
        return recorded_blocking(vault.audit, operator_record(action, subject), work)


@contextmanager
def vault_here() -> "Iterator[Vault]":
    """The data folder that the settings name, opened."""
    from bedside.core.clock import SystemClock
    from bedside.operations.configuration import load_settings
    from bedside.vault import open_vault

    vault = open_vault(load_settings(), SystemClock())
    try:
        yield vault
    finally:
        vault.close()
