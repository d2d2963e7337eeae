"""Who runs next? A pure state machine: no clock, no lock, no task. ``turnstile.py`` carries it out.

Each model has a number of places. A request that finds none waits; when a place is free, users take
turns, so that one user's hundred requests do not stand in front of another user's one.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum


class Answer(StrEnum):
    ADMITTED = "admitted"
    QUEUED = "queued"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request's wish to run. ``id`` is unique among all that wait or run."""

    id: str
    user: str
    model: str


@dataclass
class _Model:
    running: set[str] = field(default_factory=set)
    waiting: OrderedDict[str, deque[Ticket]] = field(default_factory=OrderedDict)


class Admission:
    """``places`` requests run at once per model; at most ``queue`` wait in all."""

    def __init__(self, places: int, queue: int) -> None:
        self.places, self.queue = places, queue
        self.waiting = 0
        self._models: dict[str, _Model] = {}

    @property
    def running(self) -> int:
        return sum(len(model.running) for model in self._models.values())

    def ask(self, ticket: Ticket) -> Answer:
        model = self._models.setdefault(ticket.model, _Model())
        if len(model.running) < self.places and not model.waiting:
            model.running.add(ticket.id)
            return Answer.ADMITTED
        if self.waiting >= self.queue:
            return Answer.REFUSED
        model.waiting.setdefault(ticket.user, deque()).append(ticket)
        self.waiting += 1
        return Answer.QUEUED

    def position(self, ticket: Ticket) -> int:
        """How many run before this one does, as far as is known now, plus one; 0 when it does not wait.

        Users take turns: the n-th of a user goes in the n-th round.
        """
        waiting = self._models[ticket.model].waiting if ticket.model in self._models else {}
        line = waiting.get(ticket.user, deque())
        if ticket not in line:
            return 0
        place, users = line.index(ticket), list(waiting)
        before = users.index(ticket.user)
        return 1 + sum(min(len(q), place + (n < before)) for n, q in enumerate(waiting.values()))

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """The request ended, or gave up waiting. Returns the tickets that run now because of it."""
        model = self._models.get(ticket.model)
        if model is None:
            return []
        if ticket.id in model.running:
            model.running.remove(ticket.id)
        elif ticket in model.waiting.get(ticket.user, ()):
            model.waiting[ticket.user].remove(ticket)
            self.waiting -= 1
            self._forget_empty(model, ticket.user)
        admitted = self._fill(model)
        if not model.running and not model.waiting:
            del self._models[ticket.model]
        return admitted

    def _fill(self, model: _Model) -> list[Ticket]:
        admitted = []
        while model.waiting and len(model.running) < self.places:
            user = next(iter(model.waiting))
            ticket = model.waiting[user].popleft()
            model.waiting.move_to_end(user)
            self._forget_empty(model, user)
            self.waiting -= 1
            model.running.add(ticket.id)
            admitted.append(ticket)
        return admitted

    @staticmethod
    def _forget_empty(model: _Model, user: str) -> None:
        if not model.waiting[user]:
            del model.waiting[user]
