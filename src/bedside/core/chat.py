"""What passes between the clinical work and a runtime: messages in, tokens out, one final record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``images`` are whole image files (PNG, JPEG ...), as bytes."""

    role: Literal["system", "user", "assistant"]
    content: str
    images: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """How to sample. ``None`` leaves a choice to the task, and then to the runtime.

    ``temperature`` 0 to 2, ``top_p`` 0 to 1, ``top_k`` 0 to 1000, ``max_tokens`` in tokens of the answer.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One question to one model. ``stall_seconds``: longest silence before it counts as stuck."""

    model: str
    messages: Sequence[Message]
    options: Options = field(default_factory=Options)
    stall_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer as it comes; one model token or a few."""

    text: str


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Finished:
    """The final record every stream ends with. Times in nanoseconds; token counts as the runtime says."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    prompt_ns: int = 0
    completion_ns: int = 0


ChatEvent = Token | Finished


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as a node or the catalogue describes it. ``size`` in bytes, ``context_length`` in tokens."""

    name: str
    display_name: str
    size: int
    type: Literal["text", "vision"] = "text"
    capabilities: Sequence[str] = ()
    description: str = ""
    installed: bool = False
    quantization: str | None = None
    digest: str | None = None
    license: str | None = None
    context_length: int | None = None
    family: str | None = None
    parameters: int | None = None


class NodeState(StrEnum):
    """What a node can do now. FAILED stays until the operator acts."""

    READY = "ready"
    STARTING = "starting"
    RESTARTING = "restarting"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Health:
    """One node's state, with the reason in words when it is not ready, and numbers for an admin."""

    state: NodeState
    reason: str | None = None
    details: dict[str, object] = field(default_factory=dict)
