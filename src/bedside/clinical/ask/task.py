"""The plain prompt: what ``POST /api/local/process`` does when no task is named."""

from collections.abc import Sequence

from bedside.clinical.base import Step, Task, TaskResult, with_defaults
from bedside.clinical.base import instructions as read
from bedside.core.chat import Message
from bedside.core.request import TaskRequest


class Ask(Task):
    """One step: general instructions, the caller's words (and image), nothing else."""

    name = "ask"
    title = "Plain prompt"

    def steps(self, request: TaskRequest) -> Sequence[Step]:
        images = (request.image,) if request.image else ()
        messages = (Message("system", read(__package__, "prompt.md")), Message("user", request.text, images))
        return (Step("answer", messages, with_defaults(request.options, temperature=0.2, max_tokens=1024)),)

    def finish(self, request: TaskRequest, answers: Sequence[str]) -> TaskResult:
        return TaskResult(answers[0])
