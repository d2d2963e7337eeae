"""A lock between programs of one site, released by the system when its holder dies."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path


def file_lock(path: Path) -> Callable[[], AbstractContextManager[None]]:
    """A factory of lock-and-release blocks on ``path``: ``with lock(): ...``. Waits until it is free.

    The file stays open between blocks; one thread at a time may use the factory's blocks.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @contextlib.contextmanager
    def hold() -> Iterator[None]:
        _acquire(fd)
        try:
            yield
        finally:
            _release(fd)

    return hold


if sys.platform == "win32":
    import msvcrt

    def _acquire(fd: int) -> None:
        while True:
            os.lseek(fd, 0, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.005)
            else:
                return

    def _release(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)

    def _release(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
