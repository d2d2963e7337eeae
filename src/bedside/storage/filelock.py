"""A lock between the programs of one site, released by the system when its holder dies."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _try(fd: int) -> bool:
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait(fd: int) -> None:
        while not _try(fd):
            time.sleep(0.01)

    def _release(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)

    def _release(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock at ``path``; calls ``waiting`` once if another holds it, then waits for it.

    The file stays: removing it would let two holders lock two different files of the same name.
    Excludes threads as well as processes. Raises ``OSError`` when the folder can't be written.
    """
    with path.open("ab") as file, _held(file.fileno(), waiting):
        yield


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the lock at ``path``; if so, it is held. Does not wait."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "ab") as file:
        free = _try(file.fileno())
        try:
            yield free
        finally:
            if free:
                _release(file.fileno())


def file_lock(path: Path) -> Callable[[], AbstractContextManager[None]]:
    """The same for a lock that is taken often: ``with lock(): ...``, the file stays open between blocks.

    One thread at a time may use what this returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return lambda: _held(fd, None)


@contextmanager
def _held(fd: int, waiting: Callable[[], None] | None) -> Iterator[None]:
    if not _try(fd):
        if waiting is not None:
            waiting()
        _wait(fd)
    try:
        yield
    finally:
        _release(fd)
