"""Two pure decisions and the waiting built on one of them: which model leaves, and who gets tokens."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.runtimes.budget import Budget, Ledger, Ticket
from bedside.runtimes.schedule import Use, to_unload

IDLE_OLD, IDLE_NEW, BUSY = Use(0, 1), Use(0, 2), Use(1, 0)


def test_a_loaded_model_makes_nobody_leave() -> None:
    assert to_unload("a", {"a": BUSY, "b": IDLE_OLD}, 2) == ()


def test_while_there_is_room_nobody_leaves() -> None:
    assert to_unload("c", {"a": IDLE_OLD}, 2) == ()


def test_the_longest_unused_idle_model_leaves_first() -> None:
    assert to_unload("c", {"new": IDLE_NEW, "busy": BUSY, "old": IDLE_OLD}, 3) == ("old",)


def test_when_all_are_busy_the_request_waits() -> None:
    assert to_unload("c", {"a": BUSY, "b": BUSY}, 2) is None


def test_a_lowered_limit_makes_as_many_leave_as_needed() -> None:
    assert to_unload("c", {"new": IDLE_NEW, "old": IDLE_OLD}, 1) == ("old", "new")


uses = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.builds(Use, st.integers(0, 2), st.integers(0, 9)))


@given(st.text("abcdef", min_size=1, max_size=2), uses, st.integers(1, 5))
def test_the_limit_is_kept_and_no_busy_model_leaves(target: str, loaded: dict[str, Use], limit: int) -> None:
    leaving = to_unload(target, loaded, limit)
    busy = {name for name, use in loaded.items() if use.in_flight}
    if leaving is None:
        assert target not in loaded
        assert len(busy) + 1 > limit
    else:
        assert not busy & set(leaving)
        assert target in loaded or len(loaded) - len(leaving) + 1 <= max(limit, 1)


@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=40), st.integers(1, 4), st.data())
def test_the_budget_is_never_overdrawn_and_all_who_stay_get_in_in_order(
    needs: list[tuple[int, bool]], slots: int, data: st.DataObject
) -> None:
    """Some leave the queue before their turn; whoever runs leaves at some time, in any order."""
    ledger, running, let_in = Ledger(100, slots), list[Ticket](), list[Ticket]()
    tickets = [Ticket(tokens) for tokens, _ in needs]

    def admit() -> None:
        new = ledger.admit()
        running.extend(new)
        let_in.extend(new)
        assert sum(ticket.tokens for ticket in running) + ledger.free_tokens == 100
        assert len(running) + ledger.free_slots == slots
        assert min(ledger.free_tokens, ledger.free_slots) >= 0

    for ticket in tickets:
        ledger.ask(ticket)
        admit()
    gone = []
    for ticket, (_, leaves) in zip(tickets, needs, strict=True):
        if leaves and not ticket.admitted:
            gone.append(ticket)
            ledger.leave(ticket)
            admit()
    while running:
        ledger.leave(running.pop(data.draw(st.integers(0, len(running) - 1))))
        admit()
    assert let_in == [ticket for ticket in tickets if ticket in let_in]
    assert all(ticket in let_in for ticket in tickets if ticket not in gone)


def test_a_need_over_the_whole_budget_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="over the whole budget"):
        Ledger(100, 4).ask(Ticket(101))


@pytest.mark.anyio
async def test_one_that_leaves_the_queue_lets_the_next_one_in() -> None:
    budget, order = Budget(100, 4), list[str]()

    async def use(name: str, tokens: int, until: asyncio.Event) -> None:
        async with budget.hold(tokens):
            order.append(name)
            await until.wait()

    done = asyncio.Event()
    tasks = [asyncio.create_task(use(*each, done)) for each in (("first", 60), ("large", 90), ("small", 30))]
    await _settled()
    assert order == ["first"]
    tasks[1].cancel()
    await _settled()
    assert order == ["first", "small"]
    done.set()
    results: Sequence[object] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    async with budget.hold(100):
        order.append("all of it")


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
