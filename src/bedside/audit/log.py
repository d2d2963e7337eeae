"""The append-only log: many requests at once share one durable write.

One thread owns the file. It takes every record that waits, chains them, writes them in one call, makes
them durable, signs the new end, and only then tells the callers. A record that could not be made
durable is taken back, and its caller gets ``AUDIT_UNAVAILABLE``.
"""

import asyncio
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from bedside.audit.events import AuditRecord
from bedside.audit.verify import signature_is_good
from bedside.core.chain import GENESIS, HEAD_SLOT, BrokenLine, Head, follow, head_slot, link, read, read_head
from bedside.core.clock import Clock, iso
from bedside.core.errors import BedsideError

LOG, HEAD = "log.jsonl", "head"
BATCH = 512
LONGEST_LINE = 65_536
CLOCK_SLACK = 5.0
"""Seconds the clock may step back (a time server's correction) before the log refuses to write."""

_Waiting = tuple[AuditRecord, asyncio.Future[int], asyncio.AbstractEventLoop]
_fsync = getattr(os, "fdatasync", os.fsync)


def _seek_and_write(fd: int, data: memoryview, start: int) -> int:
    os.lseek(fd, start, os.SEEK_SET)
    return os.write(fd, data)


# Every call into the system gives the interpreter away, and has to wait for it again: one rather than two.
_pwrite = getattr(os, "pwrite", _seek_and_write)


@dataclasses.dataclass(frozen=True, slots=True)
class Signer:
    """Signs the end of the log: the public key in base64, and Ed25519 over some bytes, in base64.

    ``trusted`` are the public keys whose signature is taken for the site's own: this one and earlier ones.
    """

    key: str
    sign: Callable[[bytes], str]
    trusted: Collection[str]


class AuditLog:
    """``folder`` holds the log and its signed head. ``lock`` keeps other programs of this site out for
    the length of one write, so that the command line may append while the gateway runs. One event loop
    uses one ``AuditLog``. ``writes`` counts the durable writes so far."""

    def __init__(self, folder: Path, signer: Signer, clock: Clock, lock: Callable[[], AbstractContextManager[None]]):
        self._signer, self._clock, self._lock = signer, clock, lock
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._seq, self._prev, self._last_time, self._end = 0, GENESIS, 0.0, 0
        self._failure: str | None = None
        self.writes, self._closed = 0, False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (folder / LOG).exists() and (folder / LOG).stat().st_size and not (folder / HEAD).exists():
                raise BedsideError("AUDIT_BROKEN", why="its head is missing")
            self._paths = (folder / LOG, folder / HEAD)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._log, self._head = (os.open(path, flags, 0o600) for path in self._paths)
        except OSError as why:
            raise BedsideError("DATA_FOLDER", path=folder, why=why.strerror) from None
        with self._lock():
            self._open()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    async def append(self, record: AuditRecord) -> int:
        """Makes the record durable and returns its sequence number. Raises ``AUDIT_UNAVAILABLE``."""
        if self._closed:
            raise BedsideError("AUDIT_UNAVAILABLE", why="it is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._queue.put((record, done, loop))
        return await done

    def close(self) -> None:
        """Writes what waits, signs the end, closes the files. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            os.close(self._log)
            os.close(self._head)

    def _open(self) -> None:
        """Finds the end of the log; refuses one that ends before, or differs from, its signed head."""
        head = read_head(self._read(self._head, 0, 2 * HEAD_SLOT))
        whole = self._end_of_whole_lines()
        if whole and not head:
            raise BedsideError("AUDIT_BROKEN", why="its head can't be read")
        if head:
            self._check_signature(head)
            self._stand_at(head, whole)
        if not os.fstat(self._head).st_size:
            self._write_at(self._head, b" " * (2 * HEAD_SLOT), 0)  # the room is there before it is needed
        self._catch_up()
        self._last_time = self._time_of_last()

    def _end_of_whole_lines(self) -> int:
        size = os.fstat(self._log).st_size
        start = max(0, size - LONGEST_LINE)
        return start + self._read(self._log, start, size).rfind(b"\n") + 1

    def _check_signature(self, head: Head) -> None:
        if head.key not in self._signer.trusted or signature_is_good(head) is False:
            raise BedsideError("AUDIT_BROKEN", why="its head was not signed by this site")

    def _time_of_last(self) -> float:
        """So that time does not run backwards over a restart either."""
        last = self._read(self._log, max(0, self._end - LONGEST_LINE), self._end).splitlines()[-1:]
        return datetime.fromisoformat(str(read(last[0]).fields["time"])).timestamp() if last else 0.0

    def _stand_at(self, head: Head, whole: int) -> None:
        last = self._read(self._log, max(0, head.end - LONGEST_LINE), head.end).splitlines()[-1:]
        if head.end > whole or not last:
            raise BedsideError("AUDIT_BROKEN", why=f"records are missing before record {head.seq}")
        with _broken_log():
            if (found := read(last[0])).hash != head.hash:
                raise BrokenLine(f"record {found.seq} is not the one that was signed")
        self._seq, self._prev, self._end = head.seq, head.hash, head.end

    def _catch_up(self) -> None:
        """Takes over what another program of this site has appended since our last write."""
        self._check_in_place()
        size = os.fstat(self._log).st_size
        if size < self._end:
            raise BedsideError("AUDIT_BROKEN", why="it was cut while in use")
        if size > self._end and (whole := self._end_of_whole_lines()) < size:
            # A last line without its newline was left by a program that died while it wrote: it was never
            # durable, and nobody was told that it was.
            os.ftruncate(self._log, whole)
            size = whole
        if size > self._end:
            with _broken_log():
                self._seq, self._prev = follow(self._read(self._log, self._end, size), self._seq, self._prev)
            self._end = size

    def _check_in_place(self) -> None:
        """What was removed or renamed while it is open could be written on, and nobody would find it again."""
        for path, fd in zip(self._paths, (self._log, self._head), strict=True):
            try:
                there = os.path.samestat(os.stat(path), os.fstat(fd))
            except FileNotFoundError:
                there = False
            if not there:
                raise BedsideError("AUDIT_BROKEN", why=f"{path.name} was moved or removed while in use")

    @staticmethod
    def _read(fd: int, start: int, end: int) -> bytes:
        os.lseek(fd, start, os.SEEK_SET)
        chunks = []
        while start < end and (chunk := os.read(fd, end - start)):
            chunks.append(chunk)
            start += len(chunk)
        return b"".join(chunks)

    @staticmethod
    def _write_at(fd: int, data: bytes, start: int) -> None:
        view = memoryview(data)
        while view:
            written = _pwrite(fd, view, start)
            view, start = view[written:], start + written

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            try:
                first = self._write([record for record, _, _ in batch])
            except (OSError, BedsideError) as why:
                self._tell(batch, None, why.strerror or "disk" if isinstance(why, OSError) else why.cause)
            else:
                self._tell(batch, first, "")
        with contextlib.suppress(OSError):
            os.fsync(self._head)

    def _take(self) -> list[_Waiting] | None:
        """The next record and all that wait behind it; ``None`` at the end."""
        if (item := self._queue.get()) is None:
            return None
        batch = [item]
        while len(batch) < BATCH:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            batch.append(item)
        return batch

    def _write(self, records: list[AuditRecord]) -> int:
        if self._failure:
            raise OSError(0, self._failure)
        with self._lock():
            self._catch_up()
            now = self._time()
            time = iso(now)
            seq, prev, lines = self._seq, self._prev, bytearray()
            for record in records:
                seq += 1
                line, prev = link(seq, prev, {**record.to_fields(), "time": time})
                lines += line
            self._make_durable(bytes(lines))
            first, self._seq, self._prev, self._last_time = self._seq + 1, seq, prev, now
            with contextlib.suppress(OSError):
                # The records are durable; a head that lags behind is caught up with by the next write.
                self._sign()
        return first

    def _time(self) -> float:
        now = self._clock.now()
        if now < self._last_time - CLOCK_SLACK:
            raise OSError(0, "the clock went backwards")
        return max(now, self._last_time)

    def _make_durable(self, lines: bytes) -> None:
        try:
            self._write_at(self._log, lines, self._end)
        except OSError:
            os.ftruncate(self._log, self._end)
            raise
        try:
            _fsync(self._log)
        except OSError as why:
            # After a failed fsync nobody knows what is on the disk; only a restart looks again.
            self._failure = why.strerror or "the disk failed"
            raise
        self._end += len(lines)
        self.writes += 1

    def _sign(self) -> None:
        """Writes the new end into one of two slots. It may lag behind after a power cut, never run ahead."""
        signature = self._signer.sign(Head.signed(self._seq, self._prev, self._end))
        slot = head_slot(Head(self._seq, self._prev, self._end, self._signer.key, signature))
        self._write_at(self._head, slot, HEAD_SLOT * (self._seq % 2))

    @staticmethod
    def _tell(batch: list[_Waiting], first: int | None, why: str) -> None:
        def settle() -> None:
            for n, (_, done, _) in enumerate(batch):
                if not done.done() and first is not None:
                    done.set_result(first + n)
                elif not done.done():
                    done.set_exception(BedsideError("AUDIT_UNAVAILABLE", why=why))

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever asked
            batch[0][2].call_soon_threadsafe(settle)


@contextlib.contextmanager
def _broken_log() -> Iterator[None]:
    try:
        yield
    except BrokenLine as why:
        raise BedsideError("AUDIT_BROKEN", why=why) from None
