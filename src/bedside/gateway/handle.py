"""The one path of every request: identify, decide, admit, record intent, run, record outcome.

Every door calls ``act`` or ``process``; nothing else reaches a model or changes anything.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from bedside.audit.events import AuditRecord, Kind, Outcome
from bedside.audit.log import AuditLog
from bedside.clinical.base import Written
from bedside.clinical.registry import find_task
from bedside.clinical.run import Progress, run
from bedside.core.clock import Clock
from bedside.core.errors import BedsideError
from bedside.core.request import Context, Principal, TaskRequest
from bedside.gateway.recorded import close_failed, recorded, refused
from bedside.gateway.turnstile import Turnstile
from bedside.gateway.use import Done, ModelUse, Stopwatch
from bedside.identity.accounts import Accounts
from bedside.identity.decide import decide
from bedside.identity.roles import ANYONE
from bedside.runtimes.base import Nodes, Placed

RUN = "clinical:task:run"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits; ``position`` 1 is next."""

    position: int


Event = Queued | Written | Done


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows: whole seconds for one request, and of silence from a node."""

    request_seconds: float
    stall_seconds: float
    models_enabled: bool = True


class Gateway:
    """The corridor. Parts are handed in; ``text_key`` keys the hashes of prompts and answers."""

    def __init__(
        self,
        accounts: Accounts,
        audit: AuditLog,
        turnstile: Turnstile,
        nodes: Nodes,
        *,
        text_key: bytes,
        clock: Clock,
        limits: Limits,
        default_model: str,
    ) -> None:
        self.accounts, self.turnstile = accounts, turnstile
        self._audit, self._nodes, self._clock = audit, nodes, clock
        self._text_key, self._limits, self._default_model = text_key, limits, default_model

    async def act(
        self,
        context: Context,
        action: str,
        work: Callable[[Principal | None], Awaitable[T]],
        *,
        actor: str = "anonymous",
        subject: str | None = None,
    ) -> T:
        """Anything but model work: recorded before it is done, and closed after it when it changes something.

        ``actor`` names who asks where nobody is signed in yet. Raises ``FORBIDDEN`` and the like, and
        ``AUDIT_UNAVAILABLE``; then ``work`` was not called.
        """
        principal = await self._allowed(context, action)
        record = _record(context, action, principal, actor, subject)
        return await recorded(self._audit, record, lambda: work(principal))

    async def process(self, context: Context, request: TaskRequest) -> AsyncGenerator[Event]:
        """Has a model work. Yields ``Queued`` (only if it waits), ``Written`` ..., and one ``Done`` at the end.

        Closing the iterator frees the place in the queue and the node at once. Raises what the corridor,
        the task or the runtime raises; an error after the first ``Written`` means the answer is cut.
        """
        use = await self._admit(context, request)
        try:
            if use.position:
                yield Queued(use.position)
                await self._wait(use)
            await self._audit.append(use.intent())
            async with aclosing(self._run(use)) as progress:
                async for event in progress:
                    use.note(event)
                    if isinstance(event, Written):
                        yield event
        except BaseException as why:
            self.turnstile.leave(use.ticket)
            if use.opened:
                await close_failed(self._audit, use.closed(), why, closing=self.turnstile.closing)
            raise
        self.turnstile.leave(use.ticket)
        await self._audit.append(use.closed(kind=Kind.OUTCOME, outcome=Outcome.OK))
        yield use.done()

    async def _allowed(self, context: Context, action: str) -> Principal | None:
        if action in ANYONE:
            return None
        principal = await self.accounts.identify(context.token)
        decision = decide(principal, action)
        if not decision.allowed:
            await refused(self._audit, _record(context, action, principal), decision.reason)
            raise BedsideError(decision.code, reason=decision.reason)
        return principal

    async def _place(self, request: TaskRequest) -> Placed:
        if not self._limits.models_enabled:
            raise BedsideError("LOCAL_MODELS_DISABLED")
        placed = await self._nodes.locate(request.model or self._default_model)
        if request.image and placed.info.type != "vision":
            raise BedsideError("MODEL_HAS_NO_EYES", name=placed.info.name)
        return placed

    async def _admit(self, context: Context, request: TaskRequest) -> ModelUse:
        """Everything that can be refused before the use is recorded: who, which model, is there room."""
        watch, now = Stopwatch(self._clock), asyncio.get_running_loop().time()
        principal = await self._allowed(context, RUN)
        placed = await self._place(request)
        use = ModelUse(
            request,
            find_task(request.task),
            placed,
            _record(context, RUN, principal, patient=context.patient),
            watch=watch,
            deadline=now + self._limits.request_seconds,
            text_key=self._text_key,
        )
        try:
            use.position = self.turnstile.ask(use.ticket)
        except BedsideError as why:
            await refused(self._audit, use.record, why.code)
            raise
        return use

    async def _wait(self, use: ModelUse) -> None:
        try:
            async with asyncio.timeout_at(use.deadline):
                await self.turnstile.wait(use.ticket)
        except TimeoutError:
            raise BedsideError("WAITED_TOO_LONG") from None

    def _run(self, use: ModelUse) -> AsyncGenerator[Progress]:
        model, stall = use.placed.info.name, self._limits.stall_seconds
        return run(use.task, use.request, use.placed.runtime, model, stall_seconds=stall, deadline=use.deadline)


def _record(
    context: Context,
    action: str,
    principal: Principal | None,
    actor: str = "anonymous",
    subject: str | None = None,
    patient: str | None = None,
) -> AuditRecord:
    return AuditRecord(
        kind=Kind.INTENT,
        request_id=context.request_id,
        actor=principal.username if principal else actor,
        role=principal.role.value if principal else None,
        action=action,
        address=context.address,
        patient=patient,
        subject=subject,
    )
