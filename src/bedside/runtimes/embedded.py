"""The embedded engine: llama.cpp on this machine, one supervised child process per loaded model.

A model is loaded when it is first asked for, and unloaded when another needs its place and nobody uses
it. The prompt is counted by the model's own tokenizer before it runs, and compared with what the engine
reports, so nothing is ever cut in silence.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import aiohttp

from bedside.core.chat import ChatEvent, FinishReason, Generation, Health, ModelInfo, NodeState, Token
from bedside.core.clock import Clock, SystemClock
from bedside.core.errors import BedsideError
from bedside.runtimes import embedded_words as words
from bedside.runtimes import wire
from bedside.runtimes.base import Runtime
from bedside.runtimes.budget import Budget
from bedside.runtimes.embedded_words import NODE
from bedside.runtimes.engine_process import COMMAND, EngineConfig, EngineProcess, Link, Patience
from bedside.runtimes.schedule import Use, to_unload

ANSWER_TOKENS = 1024  # longest answer where the request sets no max_tokens
BESIDE_WEIGHTS = 256 * 1024 * 1024  # bytes for context and buffers: measured 230 to 250 MB with 8,192 tokens
OVERTAKEN = 16  # requests for loaded models that may pass one that waits for its model's place
DEATH_SECONDS = 1.0  # between a broken connection and the death that explains it
FOREVER = 86_400.0  # silence is bounded elsewhere, for the whole engine
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model on this machine and the GGUF file it is loaded from."""

    info: ModelInfo
    path: Path


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """``context`` in tokens per model, all its ``parallel`` slots together; ``prompt_cache_mib`` in MiB per model.

    ``free_memory`` tells the bytes that are left; ``check`` raises if a file may not be loaded.
    ``threads`` per engine; ``max_loaded`` models are in memory at once; ``gpu``: ``auto``, ``true`` or ``false``.
    ``command`` runs the child.
    """

    threads: int
    free_memory: Callable[[], int]
    context: int = 8192
    parallel: int = 4
    max_loaded: int = 2
    prompt_cache_mib: int = 512
    gpu: str = "auto"
    check: Callable[[Path], object] = str
    patience: Patience = field(default_factory=Patience)
    command: Sequence[str] = COMMAND

    def engine(self, path: Path) -> EngineConfig:
        return EngineConfig(str(path), self.context, self.parallel, self.threads, self.prompt_cache_mib, self.gpu)


@dataclass(eq=False, slots=True)
class Engine:
    """A model that holds a place: its process, the requests on it, and its token budget."""

    model: EngineModel
    process: EngineProcess
    budget: Budget
    opened: asyncio.Task[None]
    in_flight: int = 0
    last_used: int = 0
    heard: float = 0.0

    @property
    def name(self) -> str:
        return self.model.info.name

    async def ready(self) -> Link:
        await asyncio.shield(self.opened)  # many may wait for one opening; one that leaves must not end it
        return await self.process.ready()


@dataclass(eq=False, slots=True)
class Turn:
    """A request that waits for its model's place. ``passed``: how many went by it meanwhile."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    passed: int = 0


class EmbeddedRuntime(Runtime):
    """The seam over embedded engines. ``library`` lists the models on this machine; it is asked for every
    request, so it must be quick. A model file is known by its path: a new path is a new model."""

    name = NODE

    def __init__(
        self, config: EmbeddedConfig, library: Callable[[], Sequence[EngineModel]], clock: Clock | None = None
    ) -> None:
        self._config, self._library, self._clock = config, library, clock or SystemClock()
        self._engines: dict[str, Engine] = {}
        self._turns: list[Turn] = []
        self._stopped = False

    async def stop(self) -> None:
        self._stopped = True
        for turn in self._turns:
            turn.wake.set()
        await asyncio.gather(*(self._close(engine) for engine in self._engines.values()))

    async def models(self) -> Sequence[ModelInfo]:
        return [model.info for model in self._library()]

    async def loaded(self) -> Sequence[str]:
        return [e.name for e in self._engines.values() if e.process.state is NodeState.READY]

    async def context(self, model: str) -> int | None:
        return self._context(self._find(model))

    async def health(self) -> Health:
        """READY while any model can be asked. ``details["models"]`` tells each engine's state, for an admin."""
        failed = {path: e for path, e in self._engines.items() if e.process.state is NodeState.FAILED}
        reason = "; ".join(f"{e.name}: {e.process.reason}" for e in failed.values()) or None
        hopeless = failed and all(str(model.path) in failed for model in self._library())
        state = NodeState.FAILED if hopeless else NodeState.READY
        if self._stopped:
            state = NodeState.OFF
        return Health(state, reason, {"models": {e.name: _details(e) for e in self._engines.values()}})

    async def count(self, generation: Generation) -> int | None:
        model = self._check(generation)
        async with self._hold(model) as engine:
            return await self._count(engine, generation)

    async def generate(self, generation: Generation) -> AsyncGenerator[ChatEvent]:
        model = self._check(generation)
        async with self._hold(model) as engine:
            prompt = await self._count(engine, generation)
            answer = self._answer_tokens(generation, prompt, self._context(model))
            async with (
                engine.budget.hold(prompt + answer),
                aclosing(self._answer(engine, generation, prompt, answer)) as events,
            ):
                async for event in events:
                    yield event

    # What may run

    def _check(self, generation: Generation) -> EngineModel:
        if any(message.images for message in generation.messages):
            raise BedsideError("MODEL_HAS_NO_EYES", name=generation.model)
        return self._find(generation.model)

    def _find(self, name: str) -> EngineModel:
        library = {model.info.name: model for model in self._library()}
        if name not in library:
            raise BedsideError("MODEL_UNKNOWN", name=name, near=", ".join(get_close_matches(name, library)) or "none")
        return library[name]

    def _context(self, model: EngineModel) -> int:
        return min(self._config.context, model.info.context_length or self._config.context)

    def _answer_tokens(self, generation: Generation, prompt: int, context: int) -> int:
        """Tokens kept for the answer. Raises ``PROMPT_TOO_LONG`` when they do not fit beside the prompt."""
        wanted = generation.options.max_tokens
        room = context - prompt
        if room < (wanted or 1):
            limit = max(context - (wanted or 1), 0)
            raise BedsideError("PROMPT_TOO_LONG", tokens=prompt, model=generation.model, limit=limit)
        return wanted or min(ANSWER_TOKENS, room)

    # Which models are in memory

    @asynccontextmanager
    async def _hold(self, model: EngineModel) -> AsyncIterator[Engine]:
        """Keeps the model's engine in its place while the block runs; waits for a place if it has none."""
        engine = await self._take(model)
        engine.in_flight += 1
        engine.last_used = self._clock.tick()
        try:
            yield engine
        finally:
            engine.in_flight -= 1
            engine.last_used = self._clock.tick()
            self._wake()

    async def _take(self, model: EngineModel) -> Engine:
        """First come first served, but a request whose model is loaded goes by those who wait for a place:
        by each of them ``OVERTAKEN`` times, so that a busy model can't keep another out for ever."""
        turn = Turn()
        self._turns.append(turn)
        try:
            while (victims := self._may_go(turn, model)) is None:
                turn.wake.clear()
                await turn.wake.wait()
            for earlier in self._turns[: self._turns.index(turn)]:
                earlier.passed += 1
            return self._engines.get(str(model.path)) or self._place(model, victims)
        finally:
            self._turns.remove(turn)
            self._wake()

    def _may_go(self, turn: Turn, model: EngineModel) -> tuple[str, ...] | None:
        if self._stopped:
            raise BedsideError("NODE_UNREACHABLE", node=NODE)
        if any(earlier.passed >= OVERTAKEN for earlier in self._turns[: self._turns.index(turn)]):
            return None
        # A failed engine takes no memory, and is kept as what it is: asking again must not start it anew.
        if str(model.path) in self._engines:
            return ()
        loaded = {
            path: Use(engine.in_flight, engine.last_used)
            for path, engine in self._engines.items()
            if engine.process.state is not NodeState.FAILED
        }
        return to_unload(str(model.path), loaded, self._config.max_loaded)

    def _place(self, model: EngineModel, victims: Sequence[str]) -> Engine:
        config = self._config
        config.check(model.path)
        self._check_memory(model, [self._engines[path].model for path in victims])
        leaving = [self._engines.pop(path) for path in victims]
        process = EngineProcess(
            model.info.name, config.engine(model.path), config.patience, self._clock, config.command
        )
        opened = asyncio.create_task(self._open(process, leaving))
        engine = Engine(model, process, Budget(config.context, config.parallel), opened)
        self._engines[str(model.path)] = engine
        return engine

    def _check_memory(self, model: EngineModel, leaving: Sequence[EngineModel]) -> None:
        """Rather a clear refusal than a machine that swaps, or a kernel that kills."""
        needed = model.info.size + BESIDE_WEIGHTS
        free = self._config.free_memory() + sum(other.info.size for other in leaving)
        if needed > free:
            mib = 1024 * 1024
            raise BedsideError("MEMORY_SHORT", model=model.info.name, needed=needed // mib, free=free // mib)

    async def _open(self, process: EngineProcess, leaving: Sequence[Engine]) -> None:
        """The memory of those who leave is free before the new one is loaded."""
        await asyncio.gather(*(self._close(engine) for engine in leaving))
        process.start()

    async def _close(self, engine: Engine) -> None:
        await asyncio.wait({engine.opened})
        await engine.process.stop()

    def _wake(self) -> None:
        for turn in self._turns:
            turn.wake.set()

    # Talking to one engine

    async def _count(self, engine: Engine, generation: Generation) -> int:
        async with self._asked(engine, words.COUNT, words.chat_body(generation), generation.stall_seconds) as answer:
            body = await _patient(engine, wire.whole(answer, NODE), generation.stall_seconds)
            return words.counted(wire.record(body, NODE))

    async def _answer(
        self, engine: Engine, generation: Generation, prompt: int, answer: int
    ) -> AsyncGenerator[ChatEvent]:
        """The answer as it comes. Nothing goes out before the engine has said that it reads the whole prompt."""
        body = words.chat_body(generation, answer)
        reason: FinishReason | None = None
        async with (
            self._asked(engine, words.CHAT, body, generation.stall_seconds) as response,
            aclosing(_lines(engine, response, generation.stall_seconds)) as found,
        ):
            async for line in found:
                event = words.event(line, generation.model)
                words.refuse_cut(event, prompt)
                reason = words.reason_of(event) or reason
                if text := words.text_of(event):
                    yield Token(text)
                if end := words.finished(event, reason):
                    yield end
                    return
            raise BedsideError("STREAM_INCOMPLETE", node=NODE)

    @asynccontextmanager
    async def _asked(
        self, engine: Engine, path: str, body: dict[str, object], stall: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call to the engine's child. Whatever breaks because the child died is ``ENGINE_GONE``."""
        link = await engine.ready()
        # A session, so a connection, per call: the server closes idle ones after 5 s, and until then each
        # holds one of its few threads. Using one again just as it closes would fail a good request.
        async with wire.open_session((), {"Authorization": f"Bearer {link.key}"}) as session:
            try:
                call = session.post(link.url + path, json=body, allow_redirects=False)
                response = await _patient(engine, call, stall)
                with closing(response):  # before its end, that is what makes the engine stop
                    if response.status != 200:
                        raise words.refusal(response.status, await wire.whole(response, NODE), engine.name)
                    yield response
            except (aiohttp.ClientError, ConnectionError):
                raise await _broken(engine, link, "NODE_UNREACHABLE") from None
            except BedsideError as error:
                if error.code != "STREAM_INCOMPLETE":
                    raise
                raise await _broken(engine, link, error.code) from None


async def _broken(engine: Engine, link: Link, code: str) -> BedsideError:
    """The error for a connection that broke: it may be seen a moment before the death that broke it."""
    try:
        async with asyncio.timeout(DEATH_SECONDS):
            await link.gone.wait()
    except TimeoutError:
        return BedsideError(code, node=NODE)
    return BedsideError("ENGINE_GONE", model=engine.name)


# Silence counts per engine and not per request: while it reads one long prompt, the others rightly wait.


async def _lines(engine: Engine, response: aiohttp.ClientResponse, stall: float) -> AsyncGenerator[bytes]:
    async with aclosing(wire.lines(response, NODE, FOREVER)) as found:
        while line := await _patient(engine, anext(found, b""), stall):
            yield line


async def _patient(engine: Engine, work: Awaitable[T], stall: float) -> T:
    """``work``'s result. Raises ``STREAM_STALLED`` when the whole engine says nothing for ``stall`` seconds."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            silence = loop.time() - max(begun, engine.heard)
            if silence >= stall:
                raise BedsideError("STREAM_STALLED", node=NODE, seconds=int(stall))
            await asyncio.wait({task}, timeout=stall - silence)
        engine.heard = loop.time()
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _details(engine: Engine) -> dict[str, object]:
    process = engine.process
    return {
        "state": process.state.value,
        "pid": process.link.pid if process.link else None,
        "inFlight": engine.in_flight,
        "restarts": process.restarts,
        "reason": process.reason,
        "log": list(process.log),
    }
