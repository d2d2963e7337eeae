"""One use of a model on its way through the corridor: what is known of it so far, as audit records."""

import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bedside.audit.events import AuditRecord
from bedside.clinical.base import Completed, Task, TaskResult
from bedside.clinical.run import Progress
from bedside.core.chat import Finished
from bedside.core.clock import Clock, iso
from bedside.core.request import TaskRequest
from bedside.gateway.admission import Ticket
from bedside.runtimes.base import Placed


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a task. ``duration_ns`` from arrival to here; ``*_ms`` in milliseconds."""

    task: str
    result: TaskResult
    model: str
    digest: str | None
    usage: Finished
    duration_ns: int
    wait_ms: float
    first_token_ms: float
    timestamp: str
    request_id: str


class Stopwatch:
    """Started when a request arrives."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._start = clock, clock.tick()

    @property
    def ns(self) -> int:
        return self._clock.tick() - self._start

    @property
    def ms(self) -> float:
        return round(self.ns / 1e6, 3)

    @property
    def timestamp(self) -> str:
        """The time of day, RFC 3339."""
        return iso(self._clock.now())


class ModelUse:
    """``deadline`` is a time of the event loop; ``text_key`` keys the hashes of prompt and answer.
    ``position`` 0 means that it need not wait."""

    def __init__(
        self,
        request: TaskRequest,
        task: Task,
        placed: Placed,
        record: AuditRecord,
        *,
        watch: Stopwatch,
        deadline: float,
        text_key: bytes,
    ) -> None:
        self.request, self.task, self.placed, self.deadline = request, task, placed, deadline
        self._watch, self._key = watch, text_key
        self.ticket = Ticket(record.request_id, record.actor, placed.info.name)
        self.position = 0
        self.opened = False
        # Facts and not a record: making a record of two dozen fields again for each new fact costs too much here.
        self._facts: dict[str, Any] = {
            **record.to_fields(),
            "task": task.name,
            "model": placed.info.name,
            "digest": placed.info.digest,
            "node": placed.runtime.name,
            "prompt_hmac": text_hmac(text_key, request.text.encode(), request.image),
        }
        self._completed: Completed | None = None
        self._first_token_ms: float | None = None

    @property
    def record(self) -> AuditRecord:
        return AuditRecord(**self._facts)

    def intent(self) -> AuditRecord:
        self.opened = True
        self._facts["wait_ms"] = self._watch.ms
        return self.record

    def note(self, event: Progress) -> None:
        """Takes down the time of the first token, and the end."""
        if isinstance(event, Completed):
            self._completed = event
        elif self._first_token_ms is None:
            self._first_token_ms = self._watch.ms

    def closed(self, **end: Any) -> AuditRecord:
        """The record with its times and, when the work came to its end, what it used and made; ``end`` are
        fields that say how it ended."""
        times = {"first_token_ms": self._first_token_ms, "total_ms": self._watch.ms}
        return AuditRecord(**{**self._facts, **times, **self._made(), **end})

    def _made(self) -> dict[str, Any]:
        if (done := self._completed) is None:
            return {}
        return {
            "prompt_tokens": done.usage.prompt_tokens,
            "completion_tokens": done.usage.completion_tokens,
            "response_hmac": text_hmac(self._key, done.result.text.encode()),
        }

    def done(self) -> Done:
        """What the caller gets; only after ``note`` has seen the end."""
        assert self._completed is not None  # noqa: S101 - ``clinical.run`` ends with it or raises
        return Done(
            task=self.task.name,
            result=self._completed.result,
            model=self.placed.info.name,
            digest=self.placed.info.digest,
            usage=self._completed.usage,
            duration_ns=self._watch.ns,
            wait_ms=self._facts["wait_ms"],
            first_token_ms=self._first_token_ms or 0.0,
            timestamp=self._watch.timestamp,
            request_id=self.ticket.id,
        )


def text_hmac(key: bytes, *parts: bytes | None) -> str:
    """HMAC-SHA-256 (RFC 2104) over parts, each with its length in front so that they can't run together."""
    digest = _keyed(key).copy()
    for part in parts:
        digest.update(len(part or b"").to_bytes(8, "big") + (part or b""))
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _keyed(key: bytes) -> hmac.HMAC:
    """Setting the key takes longer than hashing a prompt with it; a copy does not set it again."""
    return hmac.new(key, digestmod="sha256")
