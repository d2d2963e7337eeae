"""The token budget of one engine: its slots share one KV cache, so requests share its tokens.

A request is let in when a slot is free and its whole need (prompt and longest answer) fits into what is
left, so the engine never has to break off an answer for want of room. First come, first served: a large
request is not overtaken by small ones, so it can't starve.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Ticket:
    """One request's need, in tokens. ``admitted`` is set when it may run."""

    tokens: int
    admitted: bool = False


class Ledger:
    """Who holds how much, and who waits. Pure; after every change ask ``admit`` who may run now."""

    def __init__(self, tokens: int, slots: int) -> None:
        self.tokens, self.slots = tokens, slots
        self.free_tokens, self.free_slots = tokens, slots
        self._waiting: deque[Ticket] = deque()

    def ask(self, ticket: Ticket) -> None:
        """Queues a need. Raises ``ValueError`` if it could never be met."""
        if ticket.tokens > self.tokens:
            raise ValueError("the need is over the whole budget")
        self._waiting.append(ticket)

    def admit(self) -> list[Ticket]:
        """Lets in, in order, all who fit; returns them."""
        let_in = []
        while self._waiting and self.free_slots and self._waiting[0].tokens <= self.free_tokens:
            ticket = self._waiting.popleft()
            ticket.admitted = True
            self.free_tokens -= ticket.tokens
            self.free_slots -= 1
            let_in.append(ticket)
        return let_in

    def leave(self, ticket: Ticket) -> None:
        """Gives back what a ticket holds, or takes it out of the queue."""
        if not ticket.admitted:
            self._waiting.remove(ticket)
            return
        self.free_tokens += ticket.tokens
        self.free_slots += 1


class Budget:
    """Waiting for one's share of ``tokens`` and one of ``slots``, in the event loop."""

    def __init__(self, tokens: int, slots: int) -> None:
        self._ledger = Ledger(tokens, slots)
        self._calls: dict[Ticket, asyncio.Event] = {}

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncIterator[None]:
        """Holds ``tokens`` and a slot inside the block. Leaving the block, or the queue, passes them on.

        Raises ``ValueError`` when ``tokens`` is over the whole budget.
        """
        ticket = Ticket(tokens)
        self._ledger.ask(ticket)
        self._calls[ticket] = called = asyncio.Event()
        try:
            self._let_in()
            await called.wait()
            yield
        finally:
            del self._calls[ticket]
            self._ledger.leave(ticket)
            self._let_in()

    def _let_in(self) -> None:
        for ticket in self._ledger.admit():
            self._calls[ticket].set()
