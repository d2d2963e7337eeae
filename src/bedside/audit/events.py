"""One audit record: which fields there are, and what each one means.

A record never holds a prompt or an answer, only their keyed hashes: whoever has the text and the key can
prove that this was it, and nobody can read it back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter


class Kind(StrEnum):
    """INTENT is durable before an act, OUTCOME closes it; EVENT is an act that only reads."""

    INTENT = "intent"
    OUTCOME = "outcome"
    EVENT = "event"


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    CLIENT_GONE = "client_gone"


LONGEST = 200
"""Characters of a field: a line has to stay short enough to be found from the end of the file."""


def _bounded(value: object) -> object:
    return value[:LONGEST] + "..." if isinstance(value, str) and len(value) > LONGEST else value


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One line of the log, apart from its place in the chain (``seq``, ``prev``, ``hash``)."""

    time: str = ""
    """When, RFC 3339 in UTC; the log sets it and keeps it from running backwards."""
    kind: Kind
    """Whether this opens an act, closes one, or is one that only reads."""
    request_id: str
    """Joins intent, outcome, program log and the answer the caller got."""
    actor: str
    """User name; ``unknown`` for a sign-in with a name that is not there; ``operator`` at the command line."""
    role: str | None = None
    """The actor's role at that moment."""
    action: str
    """What was done or asked for: a row of the action table."""
    address: str | None = None
    """Network address the request came from."""
    task: str | None = None
    """The clinical task, where there is one."""
    model: str | None = None
    """Name of the model."""
    digest: str | None = None
    """Digest of the model's file, so that an answer can be traced to exact weights."""
    node: str | None = None
    """The node that ran the model."""
    patient: str | None = None
    """The patient reference, if the caller gave one."""
    subject: str | None = None
    """What a change was made to: a user, a key, a model."""
    outcome: Outcome | None = None
    """How it ended."""
    reason: str | None = None
    """Error code, or the reason the role table gave."""
    prompt_tokens: int | None = None
    """Tokens the model read."""
    completion_tokens: int | None = None
    """Tokens the model wrote."""
    wait_ms: float | None = None
    """Time in the queue."""
    first_token_ms: float | None = None
    """Time from arrival to the first token."""
    total_ms: float | None = None
    """Time from arrival to the end."""
    prompt_hmac: str | None = None
    """HMAC-SHA-256 of the caller's text (and image), keyed with the site's ``text`` key."""
    response_hmac: str | None = None
    """HMAC-SHA-256 of the answer's text."""

    def to_fields(self) -> dict[str, object]:
        """The record as JSON members, absent fields left out, and words cut at ``LONGEST`` characters."""
        return {name: _bounded(value) for name, value in zip(FIELDS, _values(self), strict=True) if value is not None}

    @classmethod
    def from_fields(cls, members: Mapping[str, object]) -> "AuditRecord":
        """Reads a line's members back. Raises ``TypeError`` or ``ValueError`` on what no record holds."""
        values = dict(members)
        values["kind"] = Kind(str(values["kind"]))
        if "outcome" in values:
            values["outcome"] = Outcome(str(values["outcome"]))
        return cls(**values)  # type: ignore[arg-type]  # names and types are checked by the read-back test


FIELDS = tuple(field.name for field in fields(AuditRecord))
_values = attrgetter(*FIELDS)
