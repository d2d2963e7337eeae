"""Each task's own cases, on the scripted model."""

import json
from importlib.resources import files

import pytest

from bedside.clinical.base import Completed, TaskResult, Written
from bedside.clinical.registry import TASKS, find_task
from bedside.clinical.run import run
from bedside.core.chat import Generation
from bedside.core.errors import BedsideError
from bedside.core.request import TaskRequest
from bedside.runtimes.fake import FakeRuntime

CASES = {
    f"{task.name}/{case.name}": (task.name, json.loads(case.read_text("utf-8")))
    for task in TASKS.values()
    for case in (files(type(task).__module__.rpartition(".")[0]) / "cases").iterdir()
    if case.name.endswith(".json")
}


async def played(task: str, request: TaskRequest, answers: list[str]) -> tuple[str, TaskResult, FakeRuntime]:
    """What a reader saw as it came, the result, and the model that was asked."""
    left = iter(answers)
    fake = FakeRuntime(script=lambda _: next(left))
    seen, result = "", None
    async for event in run(find_task(task), request, fake, "fake:text", stall_seconds=5, deadline=float("inf")):
        if isinstance(event, Written):
            seen += event.text
        else:
            result = event.result
    assert result is not None
    return seen, result, fake


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_task_makes_of_the_models_answers_what_its_case_says(name: str) -> None:
    task, case = CASES[name]
    seen, result, fake = await played(task, TaskRequest(task, **case["request"]), case["answers"])
    assert dict(result.parts) == case["parts"]
    assert [[flag.part, flag.text] for flag in result.flags] == case["flags"]
    assert len(fake.seen) == len(case["answers"])
    assert all(answer in seen for answer in case["answers"])
    assert result.text.count("[not in source]") == len(case["flags"])


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(CASES))
async def test_the_callers_text_reaches_the_model_whole(name: str) -> None:
    task, case = CASES[name]
    _, _, fake = await played(task, TaskRequest(task, **case["request"]), case["answers"])
    assert all(case["request"]["text"] in generation.messages[-1].content for generation in fake.seen)


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_has_cases(task: str) -> None:
    assert any(name.startswith(f"{task}/") for name in CASES)


def test_a_task_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BedsideError, match="soap-note") as caught:
        find_task("poetry")
    assert caught.value.code == "TASK_UNKNOWN"


@pytest.mark.anyio
async def test_token_counts_and_times_are_summed_over_the_steps() -> None:
    answers = iter(["one two", "three", "four five six", "seven"])
    fake = FakeRuntime(script=lambda _: next(answers))
    request = TaskRequest("soap-note", "Cough.")
    events = [e async for e in run(find_task("soap-note"), request, fake, "fake:text", stall_seconds=5, deadline=1e12)]
    done = events[-1]
    assert isinstance(done, Completed)
    assert done.usage.completion_tokens == 7
    assert done.usage.prompt_tokens == sum(FakeRuntime.tokens(generation) for generation in fake.seen)


@pytest.mark.anyio
async def test_a_callers_own_options_win_over_the_tasks() -> None:
    from bedside.core.chat import Options

    request = TaskRequest("ask", "a b", options=Options(temperature=1.5, max_tokens=1, seed=7))
    _, result, fake = await played("ask", request, ["one two three"])
    generation: Generation = fake.seen[0]
    assert (generation.options.temperature, generation.options.max_tokens, generation.options.seed) == (1.5, 1, 7)
    assert result.text == "one"
