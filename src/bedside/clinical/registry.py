"""Which tasks there are: one line each."""

from collections.abc import Mapping

from bedside.clinical.ask.task import Ask
from bedside.clinical.base import Task
from bedside.clinical.soap_note.task import SoapNote
from bedside.core.errors import BedsideError

_TASKS: tuple[Task, ...] = (Ask(), SoapNote())
TASKS: Mapping[str, Task] = {task.name: task for task in _TASKS}


def find_task(name: str) -> Task:
    """Raises ``TASK_UNKNOWN``."""
    if name not in TASKS:
        raise BedsideError("TASK_UNKNOWN", name=name, known=", ".join(TASKS))
    return TASKS[name]
