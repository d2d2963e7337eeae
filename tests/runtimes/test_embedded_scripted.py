"""What the embedded runtime makes of an engine that misbehaves, with a scripted child (``tests/engine_like.py``)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tests.engine_like import TALK, program

from bedside.core.chat import ChatEvent, Finished, Generation, Message, ModelInfo, Options, Token
from bedside.core.errors import BedsideError
from bedside.operations.hardware import free_memory
from bedside.runtimes.embedded import OVERTAKEN, EmbeddedConfig, EmbeddedRuntime, EngineModel
from bedside.runtimes.engine_process import Patience

pytestmark = pytest.mark.anyio
MARKER = "Zyx-Patient-Marker"
PATIENCE = Patience(delays=(0.01,), deaths=3, window=600, load=60)
MODELS = [EngineModel(ModelInfo(name, name, 1, installed=True), Path(name)) for name in ("one", "two", "three")]


@asynccontextmanager
async def running(
    max_loaded: int = 1,
    parallel: int = 4,
    free: Callable[[], int] = free_memory,
    check: Callable[[Path], object] = str,
) -> AsyncIterator[EmbeddedRuntime]:
    config = EmbeddedConfig(
        threads=1,
        context=1000,
        parallel=parallel,
        max_loaded=max_loaded,
        patience=PATIENCE,
        free_memory=free,
        check=check,
        command=program(),
    )
    runtime = EmbeddedRuntime(config, lambda: MODELS)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def ask(text: str, model: str = "one", stall: float = 30.0, max_tokens: int = 100) -> Generation:
    return Generation(model, [Message("user", text)], Options(max_tokens=max_tokens), stall)


async def collect(runtime: EmbeddedRuntime, generation: Generation) -> Sequence[ChatEvent]:
    return [event async for event in runtime.generate(generation)]


async def failure(text: str, stall: float = 30.0) -> tuple[str, list[str]]:
    """The code of the error that ends the stream, and the text that came before."""
    came = list[str]()

    async def read(runtime: EmbeddedRuntime) -> None:
        async for event in runtime.generate(ask(f"{MARKER} {text}", stall=stall)):
            assert isinstance(event, Token)
            came.append(event.text)

    async with running() as runtime:
        with pytest.raises(BedsideError) as caught:
            await read(runtime)
    assert MARKER not in str(caught.value)
    return caught.value.code, came


async def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_loaded_and_may_be_tried_again() -> None:
    free = [100 * 1024 * 1024]
    async with running(free=lambda: free[0]) as runtime:
        with pytest.raises(BedsideError, match="100 MiB are free") as caught:
            await collect(runtime, ask("please say"))
        assert caught.value.code == "MEMORY_SHORT"
        free[0] *= 100
        assert await collect(runtime, ask("please say"))


async def test_a_file_that_may_not_be_loaded_is_refused_every_time_it_is_asked_for() -> None:
    def check(path: Path) -> None:
        raise BedsideError("GGUF_INVALID", path=path.name, why="it is a link to a file elsewhere")

    async with running(check=check) as runtime:
        for _ in range(2):
            with pytest.raises(BedsideError) as caught:
                await collect(runtime, ask("please say"))
            assert caught.value.code == "GGUF_INVALID"


async def test_a_prompt_that_was_cut_is_noticed_in_the_final_record() -> None:
    assert await failure("cut") == ("CONTEXT_MISMATCH", ["said"])


async def test_a_prompt_that_will_be_cut_is_noticed_before_the_first_token() -> None:
    assert await failure("forewarn") == ("CONTEXT_MISMATCH", [])


async def test_a_stream_without_final_record_is_incomplete() -> None:
    assert await failure("stop-short") == ("STREAM_INCOMPLETE", ["said"])


async def test_a_stream_that_breaks_off_is_incomplete() -> None:
    """What it said just before may be lost with the connection."""
    assert (await failure("break-off"))[0] == "STREAM_INCOMPLETE"


async def test_an_error_inside_the_stream_is_told_without_its_text() -> None:
    assert await failure("fail") == ("NODE_ERROR", ["said"])


async def test_a_refusal_is_told_without_its_text() -> None:
    assert await failure("refuse") == ("NODE_ERROR", [])


async def test_what_is_not_the_protocol_is_garbled() -> None:
    assert await failure("babble") == ("NODE_GARBLED", ["said"])


async def test_an_engine_that_hangs_up_without_a_word_is_unreachable() -> None:
    assert await failure("vanish") == ("NODE_UNREACHABLE", [])


async def test_an_engine_that_dies_before_its_first_word_is_gone() -> None:
    assert await failure("die") == ("ENGINE_GONE", [])


async def test_silence_in_the_stream_is_a_stall() -> None:
    assert await failure("hang", stall=0.5) == ("STREAM_STALLED", ["said"])


async def test_silence_before_the_stream_is_a_stall() -> None:
    assert await failure("last", stall=0.5) == ("STREAM_STALLED", [])


async def test_waiting_while_the_engine_works_for_others_is_no_stall() -> None:
    """Slots read their prompts one after another: the last is silent for longer than a stall may be."""
    async with running() as runtime:
        talk, last = await asyncio.gather(collect(runtime, ask("talk")), collect(runtime, ask("last", stall=2.0)))
    assert len(talk) == TALK + 1
    assert isinstance(last[-1], Finished)


async def test_a_busy_model_can_not_keep_another_out_for_ever() -> None:
    """Two streams of requests that never pause would leave no moment in which the model is idle."""
    order = list[str]()
    async with running() as runtime:

        async def use(name: str, times: int) -> None:
            for _ in range(times):
                await collect(runtime, ask("say", name))
                order.append(name)

        await collect(runtime, ask("say"))
        await asyncio.gather(use("one", 30), use("one", 30), use("two", 1))
    assert "two" in order[: OVERTAKEN + 4]


async def test_one_that_waited_for_a_place_and_left_does_not_hold_up_others() -> None:
    async with running() as runtime, aclosing(runtime.generate(ask("talk"))) as events:
        await anext(events)
        waiting = asyncio.create_task(collect(runtime, ask("say", "two")))
        for _ in range(OVERTAKEN):
            await collect(runtime, ask("say"))
        held_up = asyncio.create_task(collect(runtime, ask("say")))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await held_up
        assert await runtime.loaded() == ["one"]


async def test_the_longest_unused_model_leaves() -> None:
    async with running(max_loaded=2) as runtime:
        for name in ("one", "two", "one", "three"):
            await collect(runtime, ask("say", name))
        assert await runtime.loaded() == ["one", "three"]
        assert len(psutil.Process().children()) == 2


async def test_closing_a_stream_gives_its_slot_to_the_next() -> None:
    async with running(parallel=1) as runtime:
        async with aclosing(runtime.generate(ask("hang"))) as events:
            await anext(events)
            next_one = asyncio.create_task(collect(runtime, ask("say")))
            await runtime.count(ask("say"))
            assert not next_one.done()
        assert await next_one


async def test_those_who_wait_for_a_place_are_told_when_the_runtime_stops() -> None:
    async with running() as runtime, aclosing(runtime.generate(ask("hang"))) as events:
        await anext(events)
        waiting = asyncio.create_task(collect(runtime, ask("say", "two")))
        await runtime.count(ask("say"))
        await runtime.stop()
        with pytest.raises(BedsideError) as caught:
            await waiting
    assert caught.value.code == "NODE_UNREACHABLE"
