"""A scripted engine: a real implementation of the seam for demos, docs and tests, with no model at all.

It answers from a script, keeps the seam's rules (final record, cancellation, refusals), counts
words as tokens, and remembers what it was asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from bedside.core.chat import ChatEvent, Finished, FinishReason, Generation, ModelInfo, Token
from bedside.core.errors import BedsideError
from bedside.runtimes.base import Runtime

Script = Callable[[Generation], str]


def echo(generation: Generation) -> str:
    """The default script: says what it was given, so that a test can tell requests apart."""
    return f"You said: {generation.messages[-1].content}"


@dataclass
class FakeRuntime(Runtime):
    """Answers ``script(generation)`` word by word, ``pace`` seconds apart.

    The first ``remember`` questions are kept in ``seen``; a gateway that stays up keeps none.
    ``fail_after`` raises ``error`` once that many tokens went out (0: before the first one).
    """

    script: Script = echo
    name: str = "fake"
    model_names: Sequence[str] = ("fake:text", "fake:vision")
    pace: float = 0.0
    context_tokens: int = 4096
    fail_after: int | None = None
    error: str = "ENGINE_GONE"
    remember: int = 10_000
    seen: list[Generation] = field(default_factory=list)
    running: int = 0
    stopped: bool = False

    async def start(self) -> None:
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True

    async def generate(self, generation: Generation) -> AsyncGenerator[ChatEvent]:
        self.check(generation)
        if len(self.seen) < self.remember:
            self.seen.append(generation)
        self.running += 1
        try:
            async for event in self._play(generation):
                yield event
        finally:
            self.running -= 1

    def check(self, generation: Generation) -> None:
        """Refuses what a real engine refuses: no model of that name, a picture it can't see, a prompt too long."""
        if self.stopped:
            raise BedsideError("NODE_UNREACHABLE", node=self.name)
        if generation.model not in self.model_names:
            raise BedsideError("MODEL_UNKNOWN", name=generation.model, near=", ".join(self.model_names))
        if any(message.images for message in generation.messages) and not self._sees(generation.model):
            raise BedsideError("MODEL_HAS_NO_EYES", name=generation.model)
        tokens = self.tokens(generation)
        if tokens + (generation.options.max_tokens or 1) > self.context_tokens:
            raise BedsideError("PROMPT_TOO_LONG", tokens=tokens, model=generation.model, limit=self.context_tokens)

    async def _play(self, generation: Generation) -> AsyncGenerator[ChatEvent]:
        words = self.script(generation).split(" ")
        limit = generation.options.max_tokens or len(words)
        for n, word in enumerate(words[:limit]):
            if n == self.fail_after:
                raise self._broken(generation)
            await asyncio.sleep(self.pace)
            yield Token(word if n == 0 else f" {word}")
        reason = FinishReason.LENGTH if limit < len(words) else FinishReason.STOP
        yield Finished(reason, self.tokens(generation), min(limit, len(words)))

    def _broken(self, generation: Generation) -> BedsideError:
        return BedsideError(
            self.error, model=generation.model, node=self.name, seconds=generation.stall_seconds, status=500
        )

    @staticmethod
    def tokens(generation: Generation) -> int:
        return sum(len(message.content.split()) for message in generation.messages)

    @staticmethod
    def _sees(name: str) -> bool:
        return name.endswith("vision")

    async def models(self) -> Sequence[ModelInfo]:
        return [self._info(name) for name in self.model_names]

    def _info(self, name: str) -> ModelInfo:
        vision = self._sees(name)
        return ModelInfo(
            name=name,
            display_name="Scripted answers",
            size=0,
            type="vision" if vision else "text",
            capabilities=("completion", "vision") if vision else ("completion",),
            description="No model: answers come from a script.",
            installed=True,
            digest="sha256:" + "0" * 64,
            license="Apache-2.0",
            context_length=self.context_tokens,
        )

    async def loaded(self) -> Sequence[str]:
        return tuple(self.model_names)

    async def count(self, generation: Generation) -> int | None:
        return self.tokens(generation)

    async def context(self, model: str) -> int | None:
        return self.context_tokens
