"""Every implementation of the runtime seam, one row each: how to make one that is ready to be asked.

To add one: write an async context manager that yields a ``Ready``, and give it a row.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import psutil
import pytest
from tests.ollama_like import Json, OllamaLike
from tests.starter import SMALLEST, engine_model

from bedside.core.chat import Generation
from bedside.operations.hardware import free_memory
from bedside.runtimes.base import Runtime
from bedside.runtimes.embedded import EmbeddedConfig, EmbeddedRuntime
from bedside.runtimes.fake import FakeRuntime
from bedside.runtimes.ollama import OllamaRuntime

PACE = 0.004  # seconds a token: an answer that fills the context then takes over 15, unless it is stopped


@dataclass(frozen=True)
class Ready:
    """A started runtime with a model that reads text only, and what the suite may expect of it.

    ``idle`` comes back once the node works on nothing; the suite bounds the wait. ``expected`` gives the answer
    to a question, where it can be known beforehand.
    """

    runtime: Runtime
    model: str
    context: int
    counts: bool
    idle: Callable[[], Awaitable[None]]
    expected: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Row:
    """``marks``: what a row needs, such as ``pytest.mark.model`` for a real model."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[Ready]]
    marks: Sequence[pytest.MarkDecorator] = field(default=())


def scripted(question: str) -> str:
    """What the scripted ones answer: "Count from 1 to N ..." is obeyed, anything else repeated."""
    wanted = re.match(r"Count from 1 to (\d+)", question)
    return " ".join(map(str, range(1, int(wanted[1]) + 1))) if wanted else f"You said: {question}"


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


@asynccontextmanager
async def fake() -> AsyncIterator[Ready]:
    def answer(generation: Generation) -> str:
        return scripted(generation.messages[-1].content)

    runtime = FakeRuntime(script=answer, pace=PACE)
    await runtime.start()
    try:
        yield Ready(runtime, "fake:text", 4096, True, lambda: until(lambda: runtime.running == 0), scripted)
    finally:
        await runtime.stop()


@asynccontextmanager
async def ollama() -> AsyncIterator[Ready]:
    def answer(asked: Json) -> str:
        return scripted(asked["messages"][-1]["content"])

    async with OllamaLike(answer=answer, pace=PACE) as node:
        runtime = OllamaRuntime(node.url, (ip_network("127.0.0.0/8"),), None, 4096)
        await runtime.start()
        try:
            yield Ready(runtime, "tiny", 4096, False, lambda: until(lambda: node.running == 0), scripted)
        finally:
            await runtime.stop()


@asynccontextmanager
async def embedded() -> AsyncIterator[Ready]:
    model = engine_model()
    config = EmbeddedConfig(threads=2, free_memory=free_memory, context=1024, prompt_cache_mib=64)
    runtime = EmbeddedRuntime(config, lambda: [model])
    await runtime.start()
    try:
        yield Ready(runtime, SMALLEST, 1024, True, lambda: rest(runtime))
    finally:
        await runtime.stop()


async def rest(runtime: Runtime) -> None:
    """Until the engine's processor time stands still: it tells nobody what it is working on."""
    models = (await runtime.health()).details["models"]
    assert isinstance(models, dict)
    engine = psutil.Process(models[SMALLEST]["pid"])
    spent, before = 0.0, -1.0
    while spent - before > 0.02:
        await asyncio.sleep(0.3)
        before, spent = spent, sum(engine.cpu_times()[:2])


ROWS = (
    Row("fake", fake),
    Row("ollama", ollama),
    Row("embedded", embedded, [pytest.mark.model]),
)
