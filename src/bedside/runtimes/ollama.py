"""An Ollama node, reached over its own HTTP API. It refuses rather than cuts, and its cloud is never used.

Sharing the node with other programs works, but Ollama reloads a model whenever ``num_ctx`` or ``shift``
differs from the request before; a node of one's own answers faster.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from difflib import get_close_matches

import aiohttp
from yarl import URL

from bedside.core.chat import ChatEvent, Finished, Generation, Health, ModelInfo, NodeState, Token
from bedside.core.clock import Clock, SystemClock
from bedside.core.errors import BedsideError
from bedside.runtimes import ollama_words as words
from bedside.runtimes import wire
from bedside.runtimes.base import Runtime

ASK_SECONDS = 10.0  # lists and facts: read from memory and disk, no model works
HEALTH_SECONDS = 2.0
# How long a list of models is believed. Each question would cost its own look otherwise; and a name that
# becomes a cloud model within this time is still caught by the first record it sends.
BELIEVED_NS = 30 * 10**9
AGAIN_NS = 10**9  # an unknown name is looked up afresh, but not more often than this
ERROR_LIMIT = 64 * 1024
END_SECONDS = 1.0


@dataclass
class _Catalogue:
    """What the node said of its models, and when (``tick`` of the clock)."""

    entries: Mapping[str, words.Record] = field(default_factory=dict)
    taken: int | None = None
    shown: dict[str, words.Shown] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OllamaRuntime(Runtime):
    """One Ollama node.

    ``networks=None`` (HIPAA_MODE=false) allows any address; ``key`` is a bearer key for a proxy before the
    node; ``context`` is in tokens and bounds what a model is loaded with. ``load_seconds`` bounds the silence
    before the first record: Ollama sends nothing while it queues, loads a model and reads the prompt. From the
    first record on, ``Generation.stall_seconds`` holds.
    """

    def __init__(
        self,
        url: str,
        networks: wire.Networks | None,
        key: str | None,
        context: int,
        name: str = "ollama",
        *,
        load_seconds: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        # The client library takes a key or a user in the address, not both.
        self._url = str(URL(url).with_user(None) if key else URL(url)).rstrip("/")
        self._networks = networks
        self._headers = {"Authorization": f"Bearer {key}"} if key else None
        self._context = context
        self.name = name
        self._load_seconds = load_seconds
        self._clock = clock or SystemClock()
        self._catalogue = _Catalogue()
        self._version: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Raises ``NODE_OUTSIDE`` when the address is not inside. The node itself may still be down."""
        if self._networks is not None:
            await asyncio.to_thread(wire.refuse_outside, self._url, self._networks)
        if self._session is None:
            self._session = wire.open_session(self._networks, self._headers)

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def generate(self, generation: Generation) -> AsyncGenerator[ChatEvent]:
        """As the seam says; also ``MODEL_HAS_NO_EYES``, ``NODE_TOO_OLD``, ``CONTEXT_MISMATCH`` (the answer is
        then to be thrown away), and ``NODE_OUTSIDE`` when a record shows that a cloud model did the work."""
        name, facts = await self._admitted(generation)
        context = self._bounded(facts)
        body = words.chat_body(name, generation, context)
        silence = max(self._load_seconds, generation.stall_seconds)
        async with wire.opened(self._session, self.name, "POST", self._at("chat"), seconds=silence, body=body) as got:
            if got.status != 200:
                raise await self._refused(got, name, context)
            async with (
                aclosing(wire.lines(got, self.name, generation.stall_seconds)) as lines,
                aclosing(self._events(lines, generation, name, context)) as events,
            ):
                async for event in events:
                    yield event
                if not got.content.at_eof():
                    await self._drained(lines)

    async def _events(
        self, lines: AsyncGenerator[bytes], generation: Generation, name: str, context: int
    ) -> AsyncGenerator[ChatEvent]:
        started = False
        async for line in lines:
            record = wire.record(line, self.name)
            if "error" in record:
                raise self._broken(record["error"], name, context, started)
            if words.is_remote(record):
                self._catalogue.taken = None
                raise BedsideError("NODE_OUTSIDE", node=self.name, address=f"the host that answered for {name}")
            text = words.text_of(record)
            if text is None:
                raise BedsideError("NODE_GARBLED", node=self.name)
            if text:
                started = True
                yield Token(text)
            if end := words.finished(record):
                yield self._whole(generation, end, context)
                return
        raise BedsideError("STREAM_INCOMPLETE", node=self.name)

    def _whole(self, generation: Generation, end: Finished, context: int) -> Finished:
        sent = words.proof_of_cut(generation, end, context)
        if sent is not None:
            raise BedsideError(
                "CONTEXT_MISMATCH", node=self.name, reported=end.prompt_tokens, counted=f"at least {sent}"
            )
        return end

    @staticmethod
    async def _drained(lines: AsyncGenerator[bytes]) -> None:
        """Reads the stream's end mark, which follows the final record, so that the connection can be used again."""
        try:
            async with asyncio.timeout(END_SECONDS):
                async for _ in lines:
                    return
        except (TimeoutError, BedsideError):
            return

    def _broken(self, error: object, name: str, context: int, started: bool) -> BedsideError:
        lengths = None if started else words.refusal_for_length(error)
        return self._too_long(lengths, name, context) if lengths else self._failed("inside its stream")

    async def _refused(self, response: aiohttp.ClientResponse, name: str, context: int) -> BedsideError:
        """The error for an answer that is no stream. The node's own text stays out: it may repeat the prompt."""
        try:
            raw = await wire.whole(response, self.name, ERROR_LIMIT)
            error = wire.record(raw, self.name).get("error")
        except BedsideError:
            return self._failed(response.status)
        if lengths := words.refusal_for_length(error):
            return self._too_long(lengths, name, context)
        return self._unknown(name) if response.status == 404 else self._failed(response.status)

    def _too_long(self, lengths: tuple[int | None, int | None], name: str, context: int) -> BedsideError:
        limit = lengths[1] or context
        return BedsideError("PROMPT_TOO_LONG", tokens=lengths[0] or f"over {limit}", model=name, limit=limit)

    def _failed(self, status: int | str) -> BedsideError:
        return BedsideError("NODE_ERROR", node=self.name, status=status)

    def _unknown(self, name: str) -> BedsideError:
        near = get_close_matches(words.canonical(name), list(self._catalogue.entries))
        return BedsideError("MODEL_UNKNOWN", name=name, near=", ".join(near) or "none")

    async def _admitted(self, generation: Generation) -> tuple[str, words.Shown]:
        """The model as the node lists it, and its facts, once nothing stands against asking it."""
        await self._new_enough()
        name, facts = await self._known(generation.model)
        if "vision" not in facts.capabilities and any(message.images for message in generation.messages):
            raise BedsideError("MODEL_HAS_NO_EYES", name=name)
        return name, facts

    async def _new_enough(self) -> None:
        version = self._version or await self._asked_version()
        if words.too_old(version):
            needed = ".".join(str(part) for part in words.NEEDED)
            raise BedsideError("NODE_TOO_OLD", node=self.name, version=version, needed=needed)

    async def _asked_version(self) -> str:
        answer = await self._ask("GET", "version", seconds=HEALTH_SECONDS)
        self._version = str(answer.get("version", "unknown"))[:40]
        return self._version

    async def _known(self, model: str) -> tuple[str, words.Shown]:
        name = words.canonical(model)
        if name not in await self._listed(BELIEVED_NS) and name not in await self._listed(AGAIN_NS):
            raise self._unknown(model)
        facts = await self._shown(name, self._catalogue.entries[name])
        if facts.remote:
            raise self._unknown(model)
        return name, facts

    async def _listed(self, believed_ns: int) -> Mapping[str, words.Record]:
        """The node's own models by name, asked for again when the last answer is older than ``believed_ns``."""
        known = self._catalogue
        if self._is_fresh(believed_ns):
            return known.entries
        async with known.lock:
            if not self._is_fresh(believed_ns):
                answer = await self._ask("GET", "tags")
                known.entries = dict(self._local(answer.get("models")))
                known.taken = self._clock.tick()
            return known.entries

    def _is_fresh(self, believed_ns: int) -> bool:
        taken = self._catalogue.taken
        return taken is not None and self._clock.tick() - taken <= believed_ns

    @staticmethod
    def _local(listed: object) -> Sequence[tuple[str, words.Record]]:
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        named = [(str(entry.get("name") or entry.get("model") or ""), entry) for entry in entries]
        own = [each for each in named if each[0] and not words.is_cloud_name(each[0]) and not words.is_remote(each[1])]
        return [(words.canonical(name), entry) for name, entry in own]

    async def _shown(self, name: str, entry: words.Record) -> words.Shown:
        key = words.digest(entry) or name
        if key not in self._catalogue.shown:
            self._catalogue.shown[key] = words.shown(await self._ask("POST", "show", body={"model": name}))
        return self._catalogue.shown[key]

    def _bounded(self, facts: words.Shown) -> int:
        return min(self._context, facts.context_length or self._context)

    async def models(self) -> Sequence[ModelInfo]:
        """The node's own models, asked afresh; one that the node itself can't describe is left out."""
        found = await asyncio.gather(*(self._info(*each) for each in (await self._listed(-1)).items()))
        return [info for info in found if info is not None]

    async def _info(self, name: str, entry: words.Record) -> ModelInfo | None:
        try:
            facts = await self._shown(name, entry)
        except BedsideError as error:
            if error.code == "NODE_UNREACHABLE":
                raise
            return None
        return None if facts.remote else words.model_info(name, entry, facts, self._bounded(facts))

    async def loaded(self) -> Sequence[str]:
        answer = await self._ask("GET", "ps")
        return tuple(name for name, _ in self._local(answer.get("models")))

    async def count(self, generation: Generation) -> int | None:
        """``None``: Ollama has no call that counts tokens. It refuses a prompt that is too long by itself."""
        return None

    async def context(self, model: str) -> int | None:
        """The smaller of the configured context and the model's own. Raises ``MODEL_UNKNOWN``."""
        return self._bounded((await self._known(model))[1])

    async def health(self) -> Health:
        try:
            await self._asked_version()
            await self._new_enough()
        except BedsideError as error:
            state = NodeState.FAILED if error.code == "NODE_TOO_OLD" else NodeState.UNREACHABLE
            return Health(state, error.cause)
        return Health(NodeState.READY, details={"version": self._version})

    def _at(self, call: str) -> str:
        return f"{self._url}/api/{call}"

    async def _ask(
        self, method: str, call: str, *, body: object = None, seconds: float = ASK_SECONDS
    ) -> dict[str, object]:
        """One short call. Raises ``NODE_UNREACHABLE`` when it is not answered within ``seconds``."""
        try:
            async with (
                asyncio.timeout(seconds),
                wire.opened(self._session, self.name, method, self._at(call), seconds=seconds, body=body) as got,
            ):
                if got.status != 200:
                    raise self._failed(got.status)
                return wire.record(await wire.whole(got, self.name), self.name)
        except TimeoutError:
            raise BedsideError("NODE_UNREACHABLE", node=self.name) from None
        except BedsideError as error:
            if error.code in ("STREAM_STALLED", "STREAM_INCOMPLETE"):
                raise BedsideError("NODE_UNREACHABLE", node=self.name) from None
            raise
