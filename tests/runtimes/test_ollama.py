"""The Ollama driver over real HTTP, against a node that follows the real one's shapes and misbehaves on request."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import aiohttp
import pytest
from tests import ollama_like
from tests.ollama_like import Json, Mishap, Model, OllamaLike

from bedside.core.chat import ChatEvent, Finished, FinishReason, Generation, Message, NodeState, Options, Token
from bedside.core.clock import SetClock
from bedside.core.errors import BedsideError
from bedside.runtimes import ollama_words as words
from bedside.runtimes.ollama import OllamaRuntime

pytestmark = pytest.mark.anyio

LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = "Zyx-Patient-Marker"
QUESTION = Generation("tiny", [Message("system", "Be brief."), Message("user", f"{SECRET} has a fever.")])


@asynccontextmanager
async def driving(node: OllamaLike, context: int = 4096, **more: object) -> AsyncIterator[OllamaRuntime]:
    runtime = OllamaRuntime(node.url, LOOPBACK, more.pop("key", None), context, **more)  # type: ignore[arg-type]
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


async def collect(runtime: OllamaRuntime, generation: Generation = QUESTION) -> Sequence[ChatEvent]:
    return [event async for event in runtime.generate(generation)]


async def failure(runtime: OllamaRuntime, generation: Generation = QUESTION) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        await collect(runtime, generation)
    return caught.value


def ending(events: Sequence[ChatEvent]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


async def test_the_node_is_asked_to_refuse_rather_than_cut() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        await collect(runtime)
    (body,) = node.bodies()
    assert (body["truncate"], body["shift"], body["stream"]) == (False, False, True)
    assert body["options"] == {"num_ctx": 4096}
    assert "keep_alive" not in body


async def test_every_option_reaches_the_node_under_its_own_name() -> None:
    options = Options(temperature=0.0, top_p=0.5, top_k=0, max_tokens=9, seed=0, stop=["END", "\n\n"])
    async with OllamaLike() as node, driving(node, 2048) as runtime:
        await collect(runtime, replace(QUESTION, options=options))
    (body,) = node.bodies()
    assert body["options"] == {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 0,
        "num_predict": 9,
        "seed": 0,
        "stop": ["END", "\n\n"],
        "num_ctx": 2048,
    }


async def test_the_final_record_is_passed_on_with_cached_tokens_and_times() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        last = ending(await collect(runtime))
    assert last.reason is FinishReason.STOP
    assert 0 < last.cached_tokens < last.prompt_tokens
    assert (last.prompt_ns, last.completion_ns) == (3_000_000, 5_000_000)


async def test_a_context_smaller_than_configured_is_the_models_own() -> None:
    async with OllamaLike(models=[Model("tiny:latest", context=1024)]) as node, driving(node, 4096) as runtime:
        assert await runtime.context("tiny") == 1024
        await collect(runtime)
    assert node.bodies()[0]["options"]["num_ctx"] == 1024


@pytest.mark.parametrize(
    ("mishap", "code"),
    [
        ("deaf", "NODE_UNREACHABLE"),
        ("bad gateway", "NODE_ERROR"),
        ("error first", "NODE_ERROR"),
        ("error in stream", "NODE_ERROR"),
        ("too long in stream", "PROMPT_TOO_LONG"),
        ("no final record", "STREAM_INCOMPLETE"),
        ("only loaded", "STREAM_INCOMPLETE"),
        ("stall", "STREAM_STALLED"),
        ("silence", "STREAM_STALLED"),
        ("garbage", "NODE_GARBLED"),
        ("not an object", "NODE_GARBLED"),
        ("no record", "NODE_GARBLED"),
        ("endless line", "NODE_GARBLED"),
        ("reset", "STREAM_INCOMPLETE"),
        ("html", "NODE_GARBLED"),
        ("not http", "NODE_GARBLED"),
        ("redirect", "NODE_ERROR"),
        ("went to the cloud", "NODE_OUTSIDE"),
        ("drops the start", "CONTEXT_MISMATCH"),
        ("no count", "CONTEXT_MISMATCH"),
    ],
)
async def test_every_way_of_going_wrong_has_its_error_and_never_the_nodes_own_text(mishap: Mishap, code: str) -> None:
    """An error text of the node may repeat the prompt, so it goes nowhere: not into ours, not as its cause."""
    async with OllamaLike(mishap=mishap) as node, driving(node, load_seconds=0.3) as runtime:
        error = await failure(runtime, replace(QUESTION, stall_seconds=0.3))
    assert error.code == code
    assert SECRET not in f"{error} {error.__cause__}"
    assert error.__suppress_context__ or error.__context__ is None


async def test_a_line_longer_than_64_kib_is_an_answer_like_any_other() -> None:
    async with OllamaLike(mishap="long line") as node, driving(node) as runtime:
        events = await collect(runtime)
    assert events[0] == Token("y" * 300_000)
    ending(events)


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    async with OllamaLike() as node, driving(node, 512) as runtime:
        error = await failure(runtime, replace(QUESTION, messages=[Message("user", "fever " * 1000)]))
    assert error.code == "PROMPT_TOO_LONG"
    assert "1005 tokens" in error.cause
    assert "takes 512" in error.cause


@pytest.mark.parametrize(
    "text",
    [
        "the input length exceeds the context length",
        "the prompt is longer than the context length currently available to the model; shorten the prompt",
        "request (4285 tokens) exceeds the available context size (512 tokens), try increasing it",
    ],
)
def test_refusals_of_other_releases_are_known_without_numbers(text: str) -> None:
    assert words.refusal_for_length(text) == (None, None)


@pytest.mark.parametrize(
    "error",
    [
        "model requires more system memory",
        "it broke while reading: the input length exceeds the context length",
        ollama_like.engine_error("Multimodal data provided")["error"],
        {"unexpected": "shape"},
        None,
        17,
    ],
)
def test_other_errors_are_not_taken_for_a_long_prompt(error: object) -> None:
    assert words.refusal_for_length(error) is None


async def test_a_node_that_cuts_in_spite_of_being_asked_not_to_is_found_out() -> None:
    """What Ollama before 0.12.6 did: it read exactly as much as fits, and said nothing."""
    async with OllamaLike(mishap="cuts silently") as node, driving(node, 512) as runtime:
        error = await failure(runtime, replace(QUESTION, messages=[Message("user", "fever " * 1000)]))
    assert error.code == "CONTEXT_MISMATCH"
    assert "512 prompt tokens" in error.cause


@pytest.mark.parametrize(
    ("version", "old"),
    [("0.12.5", True), ("0.1.30", True), ("0.12.6", False), ("0.40.10", False), ("1.0.0-rc1", False), ("0.0.0", False)],
)
async def test_a_release_that_is_known_to_cut_is_not_asked_at_all(version: str, old: bool) -> None:
    async with OllamaLike(version=version) as node, driving(node) as runtime:
        health = await runtime.health()
        if old:
            assert (await failure(runtime)).code == "NODE_TOO_OLD"
        else:
            ending(await collect(runtime))
    assert health.state is (NodeState.FAILED if old else NodeState.READY)
    assert len(node.bodies()) == (0 if old else 1)


@pytest.mark.parametrize(
    ("text", "reported", "cut"),
    [
        ("fever and cough since Monday. " * 400, 1, True),
        ("fever and cough since Monday. " * 400, 2400, False),
        (" " * 12_000, 95, False),  # one token for 128 blanks
        ("-" * 12_000, 95, False),
        ("発熱と咳が続く。" * 400, 1200, False),
        ("", 0, False),
        ("Hi", 0, True),
    ],
)
def test_fewer_tokens_than_a_text_can_have_is_a_cut(text: str, reported: int, cut: bool) -> None:
    generation = replace(QUESTION, messages=[Message("user", text)])
    proof = words.proof_of_cut(generation, Finished(FinishReason.STOP, reported, 5), 32_768)
    assert (proof is not None) is cut


async def test_cloud_models_are_neither_listed_nor_asked() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        node.loaded |= {"gpt-oss:120b-cloud", "tiny:latest"}
        assert [info.name for info in await runtime.models()] == ["tiny:latest", "eyes:4b"]
        assert await runtime.loaded() == ("tiny:latest",)
        for name in ("gpt-oss:120b-cloud", "innocent", "other:cloud", "other-cloud"):
            assert (await failure(runtime, replace(QUESTION, model=name))).code == "MODEL_UNKNOWN"
            with pytest.raises(BedsideError):
                await runtime.context(name)
    assert node.bodies() == []


async def test_a_model_that_only_its_own_description_calls_remote_is_not_asked() -> None:
    class Veiled(Model):
        def shown(self) -> Json:
            return {**super().shown(), "remote_host": "https://ollama.com:443"}

    async with OllamaLike(models=[Veiled("tiny:latest")]) as node, driving(node) as runtime:
        assert await runtime.models() == []
        assert (await failure(runtime)).code == "MODEL_UNKNOWN"
    assert node.bodies() == []


async def test_a_model_is_described_in_our_words() -> None:
    async with OllamaLike() as node, driving(node, 8192) as runtime:
        text, eyes = await runtime.models()
    assert (text.display_name, text.type, eyes.type) == ("tiny", "text", "vision")
    assert (text.digest, text.size) == ("sha256:" + "ab" * 32, 397821319)
    assert (text.quantization, text.family, text.parameters) == ("Q4_K_M", "qwen2", 494032768)
    assert (text.context_length, text.license, text.installed) == (8192, "apache-2.0", True)
    assert eyes.capabilities == ("completion", "vision")


async def test_a_damaged_model_hides_itself_and_not_the_others() -> None:
    async with OllamaLike(mishap="one model damaged") as node, driving(node) as runtime:
        assert [info.name for info in await runtime.models()] == ["eyes:4b"]


@pytest.mark.parametrize(
    ("label", "parameters"),
    [("7.6B", 7_600_000_000), ("494.03M", 494_030_000), ("135M", 135_000_000), ("", None), ("1.2.3B", None)],
)
def test_a_size_label_stands_in_where_the_count_is_missing(label: str, parameters: int | None) -> None:
    info = words.model_info("tiny:latest", {"details": {"parameter_size": label}}, words.Shown(), None)
    assert info.parameters == parameters
    assert info.digest is None


async def test_descriptions_are_asked_for_once_per_digest() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        for _ in range(3):
            await runtime.models()
            await collect(runtime)
    assert len(node.bodies("/api/show")) == 2


async def test_a_model_pulled_a_moment_ago_is_found_and_a_new_digest_is_described_anew() -> None:
    clock = SetClock()
    async with OllamaLike(models=[]) as node, driving(node, clock=clock) as runtime:
        assert (await failure(runtime)).code == "MODEL_UNKNOWN"
        node.models = [Model("tiny:latest", context=1024)]
        clock.ticks += 2 * 10**9
        assert await runtime.context("tiny") == 1024
        node.models = [Model("tiny:latest", context=2048, digest="99" * 32)]
        clock.ticks += 60 * 10**9
        assert await runtime.context("tiny") == 2048


async def test_a_model_removed_behind_our_back_is_unknown() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        await collect(runtime)
        node.models = []
        assert (await failure(runtime)).code == "MODEL_UNKNOWN"


async def test_a_misspelt_model_gets_the_nearest_names() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        error = await failure(runtime, replace(QUESTION, model="tinny"))
    assert "tiny:latest" in error.cure


async def test_pictures_go_as_base64_to_a_model_that_sees() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        await collect(runtime, Generation("eyes:4b", [Message("user", "What is this?", [b"\x89PNG\r\n"])]))
    assert node.bodies()[0]["messages"][0]["images"] == ["iVBORw0K"]


async def test_a_picture_for_a_model_that_does_not_see_never_leaves() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        error = await failure(runtime, replace(QUESTION, messages=[Message("user", "What is this?", [b"PNG"])]))
    assert error.code == "MODEL_HAS_NO_EYES"
    assert node.bodies() == []


async def test_thinking_is_no_part_of_the_answer() -> None:
    thought = {"message": {"role": "assistant", "content": "", "thinking": "Hmm."}, "done": False}
    assert words.text_of(thought) == ""
    assert words.finished(thought) is None


async def test_the_node_notices_at_once_when_the_reader_leaves() -> None:
    async with OllamaLike(pace=1.0) as node, driving(node) as runtime:
        events = runtime.generate(QUESTION)
        await anext(events)
        await events.aclose()
        assert await asyncio.wait_for(node.left.wait(), 10)


async def test_the_node_notices_when_the_reader_leaves_before_the_first_token() -> None:
    async with OllamaLike(first=60.0) as node, driving(node) as runtime:
        task = asyncio.create_task(collect(runtime))
        while not node.running:
            await asyncio.sleep(0.001)
        task.cancel()
        assert await asyncio.wait_for(node.left.wait(), 10)


async def test_stopping_ends_what_is_running_with_an_error_and_not_with_silence() -> None:
    async with OllamaLike(pace=60.0) as node, driving(node) as runtime:
        events = runtime.generate(QUESTION)
        await anext(events)
        await runtime.stop()
        with pytest.raises(BedsideError) as caught:
            await anext(events)
    assert caught.value.code == "STREAM_INCOMPLETE"


async def test_one_connection_serves_one_question_after_another() -> None:
    async with OllamaLike(pace=0.001) as node, driving(node) as runtime:
        for _ in range(3):
            ending(await collect(runtime))
        assert len(node._lines) == 1


async def test_an_answer_is_whole_even_when_the_stream_has_no_end_mark() -> None:
    async with OllamaLike(mishap="no end mark") as node, driving(node) as runtime:
        ending(await collect(runtime))
        assert await asyncio.wait_for(node.left.wait(), 10)


async def test_loading_may_take_longer_than_a_stall() -> None:
    """Ollama sends nothing while it loads; only between records is silence a stall."""
    async with OllamaLike(first=0.5) as node, driving(node) as runtime:
        assert ending(await collect(runtime, replace(QUESTION, stall_seconds=0.2))).completion_tokens > 0


async def test_the_key_goes_along_and_its_absence_is_an_error_of_the_node() -> None:
    async with OllamaLike(key="k3y") as node:
        async with driving(node, key="k3y") as runtime:
            ending(await collect(runtime))
        async with driving(node) as runtime:
            assert (await failure(runtime)).code == "NODE_ERROR"
            assert (await runtime.health()).state is NodeState.UNREACHABLE


async def test_a_node_that_is_down_is_unreachable_in_every_call() -> None:
    async with OllamaLike() as node:
        pass
    async with driving(node) as runtime:
        assert (await failure(runtime)).code == "NODE_UNREACHABLE"
        health = await runtime.health()
        assert (health.state, health.reason) == (NodeState.UNREACHABLE, "The node ollama does not answer.")
        for call in (runtime.models, runtime.loaded):
            with pytest.raises(BedsideError):
                await call()


async def test_health_tells_the_version() -> None:
    async with OllamaLike() as node, driving(node) as runtime:
        health = await runtime.health()
    assert (health.state, health.details) == (NodeState.READY, {"version": "0.40.10"})


async def test_an_address_outside_is_refused_at_start() -> None:
    runtime = OllamaRuntime("http://192.0.2.1:11434", LOOPBACK, None, 4096)
    with pytest.raises(BedsideError) as caught:
        await runtime.start()
    assert caught.value.code == "NODE_OUTSIDE"


async def test_the_server_runs_as_a_program_of_its_own() -> None:
    """The journeys and the benchmark use it this way."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, ollama_like.__file__, "--tokens", "12", stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout
    try:
        url = (await program.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/api/version") as response:
            assert (await response.json())["version"] == "0.40.10"
        node = OllamaLike(url=url)
        async with driving(node) as runtime:
            last = ending(await collect(runtime))
        assert last.completion_tokens == 12
    finally:
        program.terminate()
        assert await program.wait() == 0
    assert Path(ollama_like.__file__).name == "ollama_like.py"
