"""One limit round many waits."""

import asyncio
from contextlib import closing

import pytest

from bedside.core.waits import Waits

pytestmark = pytest.mark.anyio


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_wait_that_never_ends_is_over_at_its_limit() -> None:
    with closing(Waits(seconds=0.01)) as waits, pytest.raises(TimeoutError):
        with waits:
            await forever()


async def test_each_wait_has_the_whole_time_for_itself() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with closing(Waits(seconds=0.2)) as waits:
        while loop.time() - began < 0.5:
            with waits:
                await asyncio.sleep(0.01)
        assert waits.limit > began + 0.2, "the last wait was allowed to end later than the first"


async def test_a_wait_after_many_good_ones_is_still_limited() -> None:
    with closing(Waits(seconds=0.05)) as waits:
        for _ in range(3):
            with waits:
                await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError), waits:
            await forever()


async def test_what_is_done_between_two_waits_is_not_cut_short_but_the_next_wait_is() -> None:
    loop = asyncio.get_running_loop()
    with closing(Waits(until=loop.time() + 0.01)) as waits:
        with waits:
            await asyncio.sleep(0)
        while loop.time() < waits.limit:
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError), waits:
            await forever()


async def test_the_same_limit_can_be_met_again_after_it_was_exceeded() -> None:
    with closing(Waits(seconds=0.01)) as waits:
        for _ in range(2):
            with pytest.raises(TimeoutError), waits:
                await forever()
        with waits:
            await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with closing(Waits(seconds=60)) as waits, waits:
            entered.set()
            await forever()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_itself_comes_through() -> None:
    with closing(Waits(seconds=60)) as waits, pytest.raises(LookupError):
        with waits:
            raise LookupError


async def test_closing_leaves_no_timer_behind() -> None:
    waits = Waits(seconds=0.01)
    with waits:
        await asyncio.sleep(0)
    waits.close()
    waits.close()
    assert waits._timer is None
