"""Who asks, for what, in which request: passed along, never global."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from bedside.core.chat import Options


class Role(StrEnum):
    ADMIN = "admin"
    PROVIDER = "provider"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who has proved who they are. ``family`` is the sign-in their tokens descend from."""

    user_id: str
    username: str
    role: Role
    family: str
    must_change_password: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """One request on its way: its id, the address it came from, the token it showed, the patient it names.

    ``patient`` is a reference (MRN or FHIR reference) that goes into the audit record and nowhere else.
    """

    request_id: str
    address: str
    token: str | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One piece of clinical work, as every door hands it to the corridor.

    ``task`` names a folder in ``clinical/``; ``text`` is the encounter's text or the plain prompt.
    """

    task: str
    text: str
    model: str | None = None
    kind: Literal["text", "vision"] = "text"
    image: bytes | None = None
    options: Options = field(default_factory=Options)
