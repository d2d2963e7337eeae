"""Runs a task's steps on a runtime, one after the other, and hands on the words as they come."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing

from bedside.clinical.base import Completed, Step, Task, Written
from bedside.core.chat import ChatEvent, Finished, FinishReason, Generation
from bedside.core.errors import BedsideError
from bedside.core.request import TaskRequest
from bedside.core.waits import Waits
from bedside.runtimes.base import Runtime

Progress = Written | Completed


async def run(
    task: Task, request: TaskRequest, runtime: Runtime, model: str, *, stall_seconds: float, deadline: float
) -> AsyncGenerator[Progress]:
    """Yields ``Written`` ... and ends with one ``Completed``.

    ``deadline`` is a time of the running event loop. Raises what the runtime raises, ``WAITED_TOO_LONG``,
    and ``ANSWER_EMPTY`` when the model writes nothing for a part.
    """
    answers: list[str] = []
    ends: list[Finished] = []
    for step in task.steps(request):
        answer: list[str] = []
        generation = Generation(model, step.messages, step.options, stall_seconds)
        async with aclosing(_until(deadline, runtime, generation)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    ends.append(event)
                else:
                    yield Written(_gap(step, answers) + event.text if not answer else event.text)
                    answer.append(event.text)
        answers.append(_checked("".join(answer), model, step))
    yield Completed(task.finish(request, answers), _sum(ends))


def _gap(step: Step, before: Sequence[str]) -> str:
    """What stands between two parts: written with a part's first token, so that no heading stands alone."""
    return ("\n\n" if before else "") + (f"{step.heading}: " if step.heading else "")


def _checked(answer: str, model: str, step: Step) -> str:
    if not answer.strip():
        raise BedsideError("ANSWER_EMPTY", model=model, part=step.part)
    return answer


async def _until(deadline: float, runtime: Runtime, generation: Generation) -> AsyncGenerator[ChatEvent]:
    """The runtime's stream, with the request's deadline on every wait, and its node freed at the end."""
    async with aclosing(runtime.generate(generation)) as events:
        with closing(Waits(until=deadline)) as waits:
            while True:
                try:
                    with waits:
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise BedsideError("WAITED_TOO_LONG") from None
                yield event


def _sum(ends: Sequence[Finished]) -> Finished:
    if len(ends) == 1:
        return ends[0]
    cut = any(end.reason is FinishReason.LENGTH for end in ends)
    return Finished(
        FinishReason.LENGTH if cut else FinishReason.STOP,
        sum(end.prompt_tokens for end in ends),
        sum(end.completion_tokens for end in ends),
        sum(end.cached_tokens for end in ends),
        sum(end.prompt_ns for end in ends),
        sum(end.completion_ns for end in ends),
    )
