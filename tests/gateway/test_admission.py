"""Who runs next: the pure decision, and the turnstile that carries it out."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bedside.core.errors import BedsideError
from bedside.gateway.admission import Admission, Answer, Ticket
from bedside.gateway.turnstile import Turnstile


def ticket(n: int, user: str = "lee", model: str = "m") -> Ticket:
    return Ticket(f"t{n}", user, model)


def test_requests_run_up_to_the_places_of_their_model_and_then_wait() -> None:
    admission = Admission(places=2, queue=2)
    assert [admission.ask(ticket(n)) for n in range(5)] == [
        Answer.ADMITTED,
        Answer.ADMITTED,
        Answer.QUEUED,
        Answer.QUEUED,
        Answer.REFUSED,
    ]
    assert admission.ask(ticket(9, model="other")) is Answer.ADMITTED


def test_users_take_turns_so_one_who_sent_many_does_not_hold_up_another() -> None:
    admission = Admission(places=1, queue=100)
    for n in range(10):
        admission.ask(ticket(n, "batch"))
    admission.ask(ticket(99, "lee"))
    order, running = [], ticket(0, "batch")
    for _ in range(3):
        (running,) = admission.leave(running)
        order.append(running.user)
    assert order == ["batch", "lee", "batch"]


def test_a_place_in_the_queue_counts_who_goes_before() -> None:
    admission = Admission(places=1, queue=100)
    admission.ask(ticket(0))
    waiting = [ticket(1, "a"), ticket(2, "a"), ticket(3, "a"), ticket(4, "b")]
    for t in waiting:
        admission.ask(t)
    assert [admission.position(t) for t in waiting] == [1, 3, 4, 2]


def test_who_gives_up_waiting_leaves_no_trace() -> None:
    admission = Admission(places=1, queue=1)
    admission.ask(ticket(0))
    admission.ask(ticket(1))
    assert admission.leave(ticket(1)) == []
    assert admission.ask(ticket(2)) is Answer.QUEUED
    assert admission.leave(ticket(77)) == []
    assert [t.id for t in admission.leave(ticket(0))] == ["t2"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_the_place_that_was_told_is_the_place_that_is_kept_when_nobody_new_comes(users: list[str]) -> None:
    admission = Admission(places=1, queue=100)
    admission.ask(ticket(-1, "first"))
    waiting = [ticket(n, user) for n, user in enumerate(users)]
    for t in waiting:
        admission.ask(t)
    told = {t.id: admission.position(t) for t in waiting}
    running, order = ticket(-1, "first"), []
    for _ in waiting:
        (running,) = admission.leave(running)
        order.append(running.id)
    assert order == sorted(told, key=lambda id_: told[id_])


class Corridor(RuleBasedStateMachine):
    """Requests come, leave early, or finish, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(places=2, queue=5)
        self.running: dict[str, Ticket] = {}
        self.waiting: dict[str, Ticket] = {}
        self.count = 0

    @rule(user=st.sampled_from("abc"), model=st.sampled_from("xy"))
    def come(self, user: str, model: str) -> None:
        self.count += 1
        t = ticket(self.count, user, model)
        answer = self.admission.ask(t)
        assert (answer is Answer.REFUSED) == (len(self.waiting) >= 5 and self._full(model))
        if answer is not Answer.REFUSED:
            (self.running if answer is Answer.ADMITTED else self.waiting)[t.id] = t

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        everyone = [*self.running.values(), *self.waiting.values()]
        if not everyone:
            return
        t = data.draw(st.sampled_from(everyone))
        self.running.pop(t.id, None)
        self.waiting.pop(t.id, None)
        for admitted in self.admission.leave(t):
            self.running[admitted.id] = self.waiting.pop(admitted.id)

    def _full(self, model: str) -> bool:
        return sum(t.model == model for t in self.running.values()) >= 2

    @invariant()
    def never_over_committed_and_never_idle_while_someone_waits(self) -> None:
        per_model = Counter(t.model for t in self.running.values())
        assert all(n <= 2 for n in per_model.values())
        assert all(self._full(t.model) for t in self.waiting.values())
        assert (self.admission.running, self.admission.waiting) == (len(self.running), len(self.waiting))


TestCorridor = Corridor.TestCase


@pytest.mark.anyio
async def test_a_waiting_request_is_woken_when_its_turn_comes() -> None:
    turnstile = Turnstile(Admission(places=1, queue=5))
    assert turnstile.ask(ticket(0)) == 0
    assert turnstile.ask(ticket(1)) == 1
    waiter = asyncio.create_task(turnstile.wait(ticket(1)))
    turnstile.leave(ticket(0))
    await waiter
    assert turnstile.state == {"running": 1, "waiting": 0, "limit": 5, "parallel": 1}


@pytest.mark.anyio
async def test_a_request_that_is_cancelled_just_as_its_turn_comes_passes_the_turn_on() -> None:
    turnstile = Turnstile(Admission(places=1, queue=5))
    for n in range(3):
        turnstile.ask(ticket(n))
    waiter = asyncio.create_task(turnstile.wait(ticket(1)))
    await asyncio.sleep(0)
    turnstile.leave(ticket(0))
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    turnstile.leave(ticket(1))
    await turnstile.wait(ticket(2))
    assert turnstile.state["waiting"] == 0


@pytest.mark.anyio
async def test_a_full_queue_says_when_to_come_back() -> None:
    turnstile = Turnstile(Admission(places=1, queue=1))
    turnstile.ask(ticket(0))
    turnstile.ask(ticket(1))
    with pytest.raises(BedsideError) as caught:
        turnstile.ask(ticket(2))
    assert caught.value.code == "QUEUE_FULL"
    assert caught.value.retry_after
