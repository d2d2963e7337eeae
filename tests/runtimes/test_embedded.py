"""The embedded engine with a real small model: loading, unloading, dying, refusing, and many at once."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.starter import SMALLEST, engine_model, starter

from bedside.core.chat import ChatEvent, Finished, Generation, Message, NodeState, Options, Token
from bedside.core.errors import BedsideError
from bedside.operations.hardware import free_memory
from bedside.runtimes.embedded import EmbeddedConfig, EmbeddedRuntime, EngineModel
from bedside.runtimes.engine_process import Patience

pytestmark = [pytest.mark.anyio, pytest.mark.model]
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
LONG = "List all the bones of the human body, with a sentence on each one."
MARKER = "Zyx-Patient-Marker"
OTHER = "other:135m"
PATIENCE = Patience(delays=(0.01,), deaths=3, window=600, load=120)


@asynccontextmanager
async def running(*models: EngineModel, **config: Any) -> AsyncIterator[EmbeddedRuntime]:
    given: dict[str, Any] = {
        "threads": 2,
        "context": 1024,
        "prompt_cache_mib": 16,
        "gpu": "false",
        "patience": PATIENCE,
        "free_memory": free_memory,
    }
    runtime = EmbeddedRuntime(EmbeddedConfig(**{**given, **config}), lambda: models or [engine_model()])
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def ask(text: str, model: str = SMALLEST, stall: float = 60.0, **options: Any) -> Generation:
    wanted = {"max_tokens": 8, "temperature": 0.0, "seed": 7, **options}
    return Generation(model, [Message("user", text)], Options(**wanted), stall)


async def collect(runtime: EmbeddedRuntime, generation: Generation) -> Sequence[ChatEvent]:
    return [event async for event in runtime.generate(generation)]


async def ending(runtime: EmbeddedRuntime, generation: Generation) -> Finished:
    last = (await collect(runtime, generation))[-1]
    assert isinstance(last, Finished)
    return last


async def failure(runtime: EmbeddedRuntime, generation: Generation) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        await collect(runtime, generation)
    return caught.value


async def details(runtime: EmbeddedRuntime, model: str = SMALLEST) -> dict[str, Any]:
    models = (await runtime.health()).details["models"]
    assert isinstance(models, dict)
    return dict(models.get(model, {}))


@pytest.fixture
def other(tmp_path: Path) -> EngineModel:
    """The same weights under another name and path: another model, as far as the runtime can tell."""
    path = tmp_path / "other.gguf"
    path.symlink_to(starter())
    return engine_model(OTHER, path)


@pytest.fixture
def garbage(tmp_path: Path) -> EngineModel:
    path = tmp_path / "garbage.gguf"
    path.write_bytes(b"garbage" * 100)
    return engine_model("garbage:1b", path)


@needs_signals
async def test_a_child_killed_mid_stream_ends_that_request_clearly_and_the_next_one_works() -> None:
    async with running() as runtime, aclosing(runtime.generate(ask(LONG, max_tokens=900))) as events:
        assert isinstance(await anext(events), Token)
        killed = (await details(runtime))["pid"]
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(BedsideError) as caught:
            async for _ in events:
                pass
        assert caught.value.code == "ENGINE_GONE"
        assert await collect(runtime, ask("Hello"))
        now = await details(runtime)
        assert (now["restarts"], now["inFlight"]) == (1, 0)
        assert now["pid"] != killed


@needs_signals
async def test_a_silent_engine_is_a_stall() -> None:
    async with running() as runtime, aclosing(runtime.generate(ask(LONG, max_tokens=900, stall=1.0))) as events:
        assert isinstance(await anext(events), Token)
        child = psutil.Process((await details(runtime))["pid"])
        child.suspend()
        try:
            with pytest.raises(BedsideError) as caught:
                async for _ in events:
                    pass
        finally:
            child.resume()
        assert caught.value.code == "STREAM_STALLED"


async def test_an_engine_that_can_not_load_is_marked_failed_with_reason_and_log(garbage: EngineModel) -> None:
    async with running(garbage, engine_model(), max_loaded=1) as runtime:
        asked = ask("Hello", garbage.info.name)
        assert [(await failure(runtime, asked)).code for _ in range(2)] == ["NODE_FAILED", "NODE_FAILED"]
        health = await runtime.health()
        assert health.state is NodeState.READY, "the other model can still be asked"
        assert "invalid magic characters" in str(health.reason)
        found = await details(runtime, garbage.info.name)
        assert found["state"] == "failed"
        assert any("failed to load model" in line for line in found["log"])
        assert await collect(runtime, ask("Hello"))


async def test_when_no_model_is_left_that_can_load_the_node_is_failed(garbage: EngineModel) -> None:
    async with running(garbage) as runtime:
        assert (await failure(runtime, ask("Hello", garbage.info.name))).code == "NODE_FAILED"
        assert (await runtime.health()).state is NodeState.FAILED


async def test_two_models_take_turns_in_one_place(other: EngineModel) -> None:
    async with running(engine_model(), other, max_loaded=1) as runtime:
        for name in (SMALLEST, OTHER, SMALLEST):
            assert await collect(runtime, ask("Hello", name))
            assert await runtime.loaded() == [name]
            assert len(psutil.Process().children()) == 1


async def test_two_first_requests_share_one_load_and_one_of_them_may_leave() -> None:
    async with running() as runtime:
        first, second = (asyncio.create_task(collect(runtime, ask("Hello"))) for _ in range(2))
        while not psutil.Process().children():
            await asyncio.sleep(0.01)
        first.cancel()
        assert await second
        assert first.cancelled()
        assert len(psutil.Process().children()) == 1
        assert (await details(runtime))["restarts"] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
async def test_a_model_that_takes_for_ever_to_load_holds_up_no_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.gguf")
    endless = engine_model("endless:1b", tmp_path / "endless.gguf")
    async with running(endless, engine_model(), max_loaded=2) as runtime:
        waiting = asyncio.create_task(collect(runtime, ask("Hello", endless.info.name)))
        assert await collect(runtime, ask("Hello"))
        assert not waiting.done()
        await runtime.stop()
        with pytest.raises(BedsideError):
            await waiting


async def test_more_at_once_than_the_context_holds_wait_and_get_their_whole_answers() -> None:
    async with running(context=256) as runtime:
        asked = [ask(f"{n}. {LONG}", max_tokens=80) for n in range(4)]
        results = await asyncio.gather(*(ending(runtime, each) for each in asked))
    assert [result.completion_tokens for result in results] == [80] * 4


async def test_a_prompt_already_read_is_not_read_again() -> None:
    async with running() as runtime:
        first, second = [await ending(runtime, ask("Name one bone.")) for _ in range(2)]
    assert first.cached_tokens == 0
    assert second.cached_tokens == second.prompt_tokens - 1
    assert second.prompt_ns > 0
    assert second.completion_ns > 0


async def test_a_prompt_that_does_not_fit_is_refused_with_its_count_and_the_limit() -> None:
    async with running() as runtime:
        asked = ask("fever " * 400, max_tokens=700)
        counted = await runtime.count(asked)
        error = await failure(runtime, asked)
        assert error.code == "PROMPT_TOO_LONG"
        assert str(counted) in error.cause
        assert "takes 324" in error.cause
        assert (await failure(runtime, ask("fever " * 1200, max_tokens=None))).code == "PROMPT_TOO_LONG"


async def test_without_max_tokens_the_answer_gets_what_the_prompt_leaves() -> None:
    async with running(context=512) as runtime:
        result = await ending(runtime, ask(LONG, max_tokens=None, temperature=None, seed=None))
    assert result.prompt_tokens + result.completion_tokens <= 512


async def test_a_stop_word_ends_the_answer_before_it() -> None:
    async with running() as runtime:
        text = "".join(e.text for e in await collect(runtime, ask("Hello", max_tokens=30)) if isinstance(e, Token))
        stop = text.split()[2]
        cut = await collect(runtime, ask("Hello", max_tokens=30, stop=(stop,)))
        assert "".join(e.text for e in cut if isinstance(e, Token)) == text[: text.index(stop)]


@pytest.mark.parametrize("options", [{}, {"stop": ("\ud800",)}])
async def test_half_a_character_is_refused_before_anything_hears_of_it(options: dict[str, Any]) -> None:
    async with running() as runtime:
        text = "Hello" if options else f"{MARKER} \ud800"
        error = await failure(runtime, ask(text, **options))
        assert error.code == "BAD_FIELD"
        assert MARKER not in str(error)


async def test_no_log_line_and_no_health_report_holds_a_prompt_or_an_answer(capfd: pytest.CaptureFixture[str]) -> None:
    async with running() as runtime:
        events = await collect(runtime, ask(f"Repeat: {MARKER}", max_tokens=32))
        await failure(runtime, ask(f"{MARKER} " * 1000))
        health = repr(await runtime.health())
    written = health + "".join(capfd.readouterr())
    answer = "".join(event.text for event in events if isinstance(event, Token))
    assert MARKER not in written
    assert answer not in written


async def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    async with running() as runtime:
        error = await failure(runtime, ask("Hello", "smollm2:136m"))
    assert error.code == "MODEL_UNKNOWN"
    assert SMALLEST in error.cure


async def test_requests_under_way_end_clearly_when_the_runtime_stops() -> None:
    async with running() as runtime, aclosing(runtime.generate(ask(LONG, max_tokens=900))) as events:
        assert isinstance(await anext(events), Token)
        await runtime.stop()
        with pytest.raises(BedsideError) as caught:
            async for _ in events:
                pass
        assert caught.value.code == "ENGINE_GONE"
        assert (await runtime.health()).state is NodeState.OFF
        assert not psutil.Process().children()
