"""Owns the nodes: knows which models are where, starts and stops them, and tells how they are."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from bedside.core.chat import Health
from bedside.core.errors import BedsideError
from bedside.runtimes.base import Placed, Runtime

Missing = Callable[[str, Sequence[str]], BedsideError]
"""Makes the error for a model that no node has: (name, names that nodes have)."""

POLL_SECONDS = 5.0


class Pool:
    """The nodes in order of preference. Listings are polled in the background, never on a request's way,
    unless a model is asked for that is not in them."""

    def __init__(self, nodes: Sequence[Runtime], missing: Missing, poll_seconds: float = POLL_SECONDS) -> None:
        self.nodes = nodes
        self._missing, self._poll_seconds = missing, poll_seconds
        self._placed: dict[str, Placed] = {}
        self._silent: set[str] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        await self.refresh()
        self._poller = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        if self._poller:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
        await asyncio.gather(*(node.stop() for node in self.nodes))

    async def locate(self, model: str) -> Placed:
        """Raises ``MODEL_UNKNOWN``, ``MODEL_NOT_INSTALLED``, or ``NODE_UNREACHABLE`` if its node went silent."""
        placed = self._find(model)
        if placed is None:
            await self.refresh()
            placed = self._find(model)
        if placed is None:
            raise self._missing(model, sorted(self._placed))
        if placed.runtime.name in self._silent:
            raise BedsideError("NODE_UNREACHABLE", node=placed.runtime.name)
        return placed

    def placed(self) -> Sequence[Placed]:
        """What the nodes have, as of the last poll, by name; one that two nodes have is listed once."""
        return [placed for _, placed in sorted(self._placed.items())]

    async def loaded(self) -> list[tuple[str, str]]:
        """(node, model) for every model in memory."""
        return [(node.name, model) for node in self.nodes for model in await _quietly(node)]

    async def health(self) -> Mapping[str, Health]:
        states = await asyncio.gather(*(node.health() for node in self.nodes))
        return {node.name: state for node, state in zip(self.nodes, states, strict=True)}

    async def refresh(self) -> None:
        """Asks every node now; who comes while that goes on shares it. A node that does not answer keeps its
        last listing, marked silent."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        found = await asyncio.gather(*(self._list(node) for node in self.nodes))
        # In one step: a model that was missing for a moment would send every request here to look for it.
        # Reversed, so that the preferred node has the last word.
        self._placed = {name: placed for models in reversed(found) for name, placed in models.items()}

    async def _list(self, node: Runtime) -> dict[str, Placed]:
        try:
            models = await node.models()
        except BedsideError:
            self._silent.add(node.name)
            return {name: placed for name, placed in self._placed.items() if placed.runtime is node}
        self._silent.discard(node.name)
        return {info.name: Placed(node, info) for info in models}

    def _find(self, model: str) -> Placed | None:
        return self._placed.get(model) or self._placed.get(f"{model}:latest")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self.refresh()


async def _quietly(node: Runtime) -> Sequence[str]:
    """A node that does not answer has nothing to show here; its health says why."""
    try:
        return await node.loaded()
    except BedsideError:
        return ()
