"""Carries out what ``admission`` decides: lets requests in, makes them wait, sends them away."""

import asyncio

from bedside.core.errors import BedsideError
from bedside.gateway.admission import Admission, Answer, Ticket

RETRY_SECONDS = 5


class Turnstile:
    """Owns one ``Admission`` and the requests that wait at it."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self.closing = False

    @property
    def state(self) -> dict[str, int]:
        """Numbers for the status page."""
        a = self._admission
        return {"running": a.running, "waiting": a.waiting, "limit": a.queue, "parallel": a.places}

    def close(self) -> None:
        """From now on nobody new gets in; who is in or waits may finish."""
        self.closing = True

    def ask(self, ticket: Ticket) -> int:
        """0 when the request may run at once, else its place in the queue: then ``wait`` for it.

        Raises ``QUEUE_FULL`` or ``SHUTTING_DOWN``.
        """
        if self.closing:
            raise BedsideError("SHUTTING_DOWN", retry_after=RETRY_SECONDS)
        answer = self._admission.ask(ticket)
        if answer is Answer.REFUSED:
            waiting = self._admission.waiting
            raise BedsideError("QUEUE_FULL", retry_after=RETRY_SECONDS, waiting=waiting, seconds=RETRY_SECONDS)
        if answer is Answer.ADMITTED:
            return 0
        self._waiting[ticket.id] = asyncio.get_running_loop().create_future()
        return self._admission.position(ticket)

    async def wait(self, ticket: Ticket) -> None:
        """Returns when it is this request's turn."""
        await self._waiting[ticket.id]

    def leave(self, ticket: Ticket) -> None:
        """Frees the place, or the place in the queue. Safe to call for a ticket that never got in."""
        self._waiting.pop(ticket.id, None)
        for admitted in self._admission.leave(ticket):
            if not (turn := self._waiting[admitted.id]).done():
                turn.set_result(None)
