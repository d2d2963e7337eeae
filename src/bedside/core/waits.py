"""A limit on waits that follow each other, such as one for every token."""

import asyncio
from types import TracebackType
from typing import Self


class Waits:
    """``with waits: await ...`` raises ``TimeoutError`` when that wait goes over the limit.

    Limits each wait to ``seconds``, or all of them to ``until``, a time of the event loop. One timer serves
    every wait: ``asyncio.timeout`` round each makes and cancels one per token, which cost as much as reading
    the token. What is done between two waits is not cut short. ``limit`` is when the wait that runs, or ran last,
    is over. ``close`` when there are no more.
    """

    def __init__(self, *, seconds: float = 0.0, until: float | None = None) -> None:
        self._seconds, self._until, self._loop = seconds, until, asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.limit, self._cancels, self._fired = 0.0, 0, False

    def __enter__(self) -> Self:
        self.limit = self._until if self._until is not None else self._loop.time() + self._seconds
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is nothing to wait for outside a task
        self._task, self._cancels = task, task.cancelling()
        if self._timer is None:
            self._timer = self._loop.call_at(self.limit, self._fire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._fired and task is not None:
            self._fired = False
            # Cancelled by somebody else as well: then theirs is the one to obey.
            if task.uncancel() <= self._cancels and kind is asyncio.CancelledError:
                raise TimeoutError from why

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        """The timer was set for an earlier wait; this one may still have time."""
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self.limit:
            self._timer = self._loop.call_at(self.limit, self._fire)
            return
        self._fired = True
        self._task.cancel()
