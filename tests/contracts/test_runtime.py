"""What every runtime keeps, whatever runs the model (the contract in ``runtimes/base.py``)."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from tests.contracts.runtimes import ROWS, Ready, Row

from bedside.core.chat import ChatEvent, Finished, FinishReason, Generation, Message, NodeState, Options, Token
from bedside.core.errors import BedsideError
from bedside.runtimes.base import Runtime

pytestmark = pytest.mark.anyio

PARAMS = [pytest.param(row, id=row.name, marks=row.marks) for row in ROWS]
LONG = "Count from 1 to 20000, one number per line, and do not stop before the end."
PATIENCE = 10.0  # only a broken runtime waits this long; its whole answer to LONG would take longer


@pytest.fixture(scope="module", params=PARAMS)
async def ready(request: pytest.FixtureRequest) -> AsyncIterator[Ready]:
    """One for the whole suite: a real model takes seconds to load."""
    row: Row = request.param
    async with row.open() as made:
        yield made


def ask(ready: Ready, text: str, **options: object) -> Generation:
    wanted = {"max_tokens": 16, "temperature": 0.0, "seed": 7, **options}
    return Generation(ready.model, [Message("user", text)], Options(**wanted))  # type: ignore[arg-type]


async def collect(runtime: Runtime, generation: Generation) -> Sequence[ChatEvent]:
    return [event async for event in runtime.generate(generation)]


async def refusal(runtime: Runtime, generation: Generation) -> str:
    """The code that ``generate`` raised; no token may have come before."""
    with pytest.raises(BedsideError) as caught:
        await anext(runtime.generate(generation))
    return caught.value.code


def text_of(events: Sequence[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def test_an_answer_is_tokens_and_then_exactly_one_final_record(ready: Ready) -> None:
    *tokens, last = await collect(ready.runtime, ask(ready, "Name one colour."))
    assert tokens
    assert all(isinstance(token, Token) and token.text for token in tokens)
    assert isinstance(last, Finished)
    assert last.prompt_tokens > 0
    assert last.completion_tokens > 0


async def test_the_tokens_joined_are_the_answer(ready: Ready) -> None:
    question = "Where is the spleen?"
    text = text_of(await collect(ready.runtime, ask(ready, question, max_tokens=64)))
    assert text == (ready.expected(question) if ready.expected else text)
    assert text.strip()


async def test_max_tokens_is_kept_and_the_reason_is_length(ready: Ready) -> None:
    last = (await collect(ready.runtime, ask(ready, LONG, max_tokens=5)))[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.completion_tokens) == (FinishReason.LENGTH, 5)


async def test_an_unknown_model_is_refused_by_name(ready: Ready) -> None:
    generation = Generation("no-such-model:7b", [Message("user", "Hello")])
    assert await refusal(ready.runtime, generation) == "MODEL_UNKNOWN"


async def test_a_prompt_that_does_not_fit_is_refused_and_nothing_runs(ready: Ready) -> None:
    generation = ask(ready, "fever " * (ready.context * 2))
    assert await refusal(ready.runtime, generation) == "PROMPT_TOO_LONG"
    await asyncio.wait_for(ready.idle(), PATIENCE)


async def test_a_picture_for_a_model_that_reads_text_only_is_refused(ready: Ready) -> None:
    """Leaving the picture out silently would be an answer about nothing."""
    seen = Message("user", "What is this?", [b"\x89PNG\r\n\x1a\n"])
    assert await refusal(ready.runtime, Generation(ready.model, [seen])) == "MODEL_HAS_NO_EYES"


async def test_the_same_seed_at_temperature_zero_gives_the_same_answer(ready: Ready) -> None:
    first, second = [text_of(await collect(ready.runtime, ask(ready, "Name one bone."))) for _ in range(2)]
    assert first == second


async def test_closing_the_stream_early_frees_the_node(ready: Ready) -> None:
    events = ready.runtime.generate(ask(ready, LONG, max_tokens=ready.context - 200))
    assert isinstance(await anext(events), Token)
    await asyncio.wait_for(events.aclose(), PATIENCE)
    await asyncio.wait_for(ready.idle(), PATIENCE)


async def test_cancelling_the_task_frees_the_node(ready: Ready) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in ready.runtime.generate(ask(ready, LONG, max_tokens=ready.context - 200)):
            begun.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), PATIENCE)
    task.cancel()
    await asyncio.wait((task,), timeout=PATIENCE)
    assert task.cancelled()
    await asyncio.wait_for(ready.idle(), PATIENCE)


async def test_several_at_once_each_get_their_own_answer(ready: Ready) -> None:
    questions = [f"Repeat the number {n}." for n in (11, 22, 33, 44)]
    answers = await asyncio.gather(*(collect(ready.runtime, ask(ready, each)) for each in questions))
    assert all(isinstance(events[-1], Finished) and text_of(events) for events in answers)
    if ready.expected:
        assert [text_of(events) for events in answers] == [ready.expected(each) for each in questions]


async def test_the_model_is_listed_as_installed_with_a_digest(ready: Ready) -> None:
    listed = {info.name.removesuffix(":latest"): info for info in await ready.runtime.models()}
    info = listed[ready.model]
    assert info.installed
    assert info.digest is not None
    assert info.digest.startswith("sha256:")
    assert len(info.digest) == len("sha256:") + 64


async def test_the_count_is_what_the_final_record_reports(ready: Ready) -> None:
    generation = ask(ready, "Weakness of the left arm since this morning.")
    counted = await ready.runtime.count(generation)
    last = (await collect(ready.runtime, generation))[-1]
    assert isinstance(last, Finished)
    assert counted == (last.prompt_tokens if ready.counts else None)


async def test_the_context_is_what_the_node_was_made_with(ready: Ready) -> None:
    assert await ready.runtime.context(ready.model) == ready.context


async def test_a_started_node_is_ready_and_its_model_gets_loaded(ready: Ready) -> None:
    assert (await ready.runtime.health()).state is NodeState.READY
    await collect(ready.runtime, ask(ready, "Hello"))
    assert ready.model in [name.removesuffix(":latest") for name in await ready.runtime.loaded()]


@pytest.mark.parametrize("text", ["Größe 1,80 m", "e\u0301te\u0301", "👩🏽‍⚕️ 🫀", "発熱と咳", "שלום"])
async def test_text_of_any_script_passes_through_whole(ready: Ready, text: str) -> None:
    answer = text_of(await collect(ready.runtime, ask(ready, text, max_tokens=64)))
    assert answer == (ready.expected(text) if ready.expected else answer)
    assert "\ufffd" not in answer


@pytest.mark.parametrize("row", PARAMS)
async def test_a_stopped_runtime_refuses_and_can_be_stopped_again(row: Row) -> None:
    async with row.open() as ready:
        await ready.runtime.stop()
        await ready.runtime.stop()
        assert await refusal(ready.runtime, ask(ready, "Hello")) in ("NODE_UNREACHABLE", "ENGINE_GONE", "NODE_FAILED")
