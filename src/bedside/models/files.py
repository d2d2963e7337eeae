"""Writing files so that they are whole or not there, and reading them while they are hashed."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20
Progress = Callable[[int, int], None]


def nothing(done: int, total: int) -> None:
    """A progress function (bytes done, bytes in all) that tells nobody."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_hashing(source: Path, target: Path, progress: Progress = nothing) -> str:
    """Copies a file and returns the SHA-256 of what was written, durable on return. Raises ``OSError``."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        total, done = os.fstat(reader.fileno()).st_size, 0
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            done += len(chunk)
            progress(done, total)
        settle(writer)
    return digest.hexdigest()


def settle(file: BinaryIO) -> None:
    """Makes what was written to ``file`` durable."""
    file.flush()
    os.fsync(file.fileno())


def replace(temporary: Path, final: Path) -> None:
    """Gives a durable file its final name in one step, and makes the name durable too."""
    os.replace(temporary, final)
    settle_folder(final.parent)


def settle_folder(folder: Path) -> None:
    """Makes the names in a folder durable; Windows has no such call and does it by itself."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file under a temporary name beside it, then renames it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            settle(file)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
