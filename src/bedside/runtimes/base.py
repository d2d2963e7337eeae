"""The seam every engine is reached through. One required method; the rest has working defaults."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bedside.core.chat import ChatEvent, Generation, Health, ModelInfo, NodeState


class Runtime(ABC):
    """One node that runs models: an engine on this machine, or a server on the inside network.

    Contract (``tests/contracts/test_runtime.py`` holds every implementation to it):

    - ``generate`` yields ``Token`` ... and ends with exactly one ``Finished``. If it can't, it raises a
      ``BedsideError``; it never ends in silence and never cuts the prompt.
    - Closing the iterator early (``aclose``, or cancelling the task) stops the node's work on it.
    - Nothing that a method does leaves the addresses the node was made with.
    """

    name: str

    @abstractmethod
    def generate(self, generation: Generation) -> AsyncGenerator[ChatEvent]:
        """Streams the answer. Raises ``MODEL_UNKNOWN``, ``PROMPT_TOO_LONG``, ``NODE_UNREACHABLE``,
        ``NODE_ERROR``, ``NODE_GARBLED``, ``ENGINE_GONE``, ``STREAM_INCOMPLETE``, ``STREAM_STALLED``."""

    async def models(self) -> Sequence[ModelInfo]:
        """What this node can run now, remote or cloud models left out."""
        return ()

    async def loaded(self) -> Sequence[str]:
        """Names of the models that are in memory."""
        return ()

    async def count(self, generation: Generation) -> int | None:
        """Prompt tokens of ``generation`` by the model's own tokenizer and template; ``None``: can't tell."""
        return None

    async def context(self, model: str) -> int | None:
        """Most tokens (prompt and answer) that one request to ``model`` may have; ``None``: can't tell."""
        return None

    async def health(self) -> Health:
        """The node's state, cheaply: no model is asked."""
        return Health(NodeState.READY)

    async def start(self) -> None:
        """Called once, in the event loop that will use the node."""

    async def stop(self) -> None:
        """Ends everything ``start`` or later calls began; safe to call twice."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A model, and the node that will run it."""

    runtime: Runtime
    info: ModelInfo


class Nodes(Protocol):
    """All nodes as one: what the corridor sees of the pool."""

    async def locate(self, model: str) -> Placed:
        """Where ``model`` runs. Raises ``MODEL_UNKNOWN``, ``MODEL_NOT_INSTALLED`` or ``NODE_UNREACHABLE``."""
        ...
