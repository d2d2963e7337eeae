"""What a clinical task is: how it asks a model, and what it makes of the answers. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from bedside.core.chat import Finished, Message, Options
from bedside.core.request import TaskRequest


@dataclass(frozen=True, slots=True)
class Step:
    """One question to the model. ``part`` is what it writes, ``heading`` what a reader sees before it."""

    part: str
    messages: Sequence[Message]
    options: Options
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """A mark on something that has no support: which part, which words, and why."""

    part: str
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task made: ``text`` to read, ``parts`` by name, ``flags`` on what is not supported."""

    text: str
    parts: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[Flag] = ()


class Task(ABC):
    """One kind of work. ``steps`` is called once, ``finish`` once with the answers in the same order."""

    name: str
    title: str

    @abstractmethod
    def steps(self, request: TaskRequest) -> Sequence[Step]: ...

    @abstractmethod
    def finish(self, request: TaskRequest, answers: Sequence[str]) -> TaskResult: ...


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of the text as it comes, headings included."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a task: its result and the sums over its steps."""

    result: TaskResult
    usage: Finished


def conversation(text: str, instruction: str) -> tuple[Message, Message]:
    """General instructions, then the encounter's text, then the task.

    Every prompt begins alike, so that the second step or task on an encounter reuses the reading of the
    first one, which is most of the time on a CPU.
    """
    general = instructions("bedside.clinical", "general.md")
    return Message("system", general), Message("user", f"Encounter text:\n{text.strip()}\n\nTask: {instruction}")


@cache
def instructions(package: str, name: str) -> str:
    """A prompt file that lies beside its task."""
    return (files(package) / name).read_text(encoding="utf-8").strip()


def with_defaults(asked: Options, **defaults: float) -> Options:
    """The caller's options, with the task's own choices where the caller made none."""
    missing: dict[str, Any] = {name: value for name, value in defaults.items() if getattr(asked, name) is None}
    return replace(asked, **missing)
