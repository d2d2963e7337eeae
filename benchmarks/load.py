"""The load generator, as a process of its own: one JSON job a line on stdin, one JSON result a line on stdout.

Written on a bare asyncio protocol: on a machine with few cores a heavy client takes time from the server that
it measures. ``open``: requests start at a fixed rate, whether or not the ones before are answered, and each is
timed from the moment it was due, so that a server that stalls can't hide it. ``closed``: each connection asks
again as soon as it has its answer.
"""

import asyncio
import gc
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
READY = 16
"""Connections that an open loop has before it begins; it makes more when it needs them."""


@dataclass
class Job:
    """What to ask, and how. ``mark`` stands in an answer from its first token on, ``end`` in a whole one."""

    kind: str
    url: str
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    mark: str = ""
    end: str = ""
    connections: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    count: int = 0

    def raw(self) -> bytes:
        """The request as it goes over the wire."""
        parts, body = urlsplit(self.url), self.body.encode()
        lines = [f"{self.method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json"] if body else []
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One request at a time; ``first`` is when the answer's mark was seen."""

    transport: asyncio.Transport

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held, self._need = bytearray(), 0
        self._done: asyncio.Future[bytes] | None = None
        self.first = 0.0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the connection was closed"))

    async def ask(self, raw: bytes) -> bytes:
        """The whole answer, head included."""
        self._held, self._need, self.first = bytearray(), 0, 0.0
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(raw)
        return await self._done

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._mark and not self.first and self._mark in self._held:
            self.first = perf_counter()
        if not self._need:
            head = self._held.find(b"\r\n\r\n")
            if head < 0:
                return
            length = LENGTH.search(self._held, 0, head + 2)
            self._need = head + 4 + int(length[1]) if length else -1
        # Chunked otherwise; the line break before the last chunk keeps a head that ends with a 0 from counting.
        whole = len(self._held) >= self._need if self._need > 0 else self._held.endswith(b"\r\n0\r\n\r\n")
        if whole and self._done is not None and not self._done.done():
            self._done.set_result(bytes(self._held))


class Run:
    """One job on its way: its samples, in milliseconds, and what went wrong."""

    def __init__(self, job: Job) -> None:
        self.job, self.raw, self.end = job, job.raw(), job.end.encode()
        self.total: list[float] = []
        self.first: list[float] = []
        self.late: list[float] = []
        self.errors: Counter[str] = Counter()
        self.idle: list[Connection] = []
        self.began = self.ended = 0.0

    async def connect(self) -> Connection:
        parts = urlsplit(self.job.url)
        loop, mark = asyncio.get_running_loop(), self.job.mark.encode()
        assert parts.hostname
        assert parts.port
        return (await loop.create_connection(lambda: Connection(mark), parts.hostname, parts.port))[1]

    async def one(self, line: Connection, due: float) -> None:
        try:
            answer = await line.ask(self.raw)
        except ConnectionError as why:
            self.errors[str(why)] += 1
            return
        if not answer.startswith(b"HTTP/1.1 200") or self.end not in answer:
            self.errors[answer[:60].partition(b"\r\n")[0].decode("latin-1")] += 1
            return
        self.total.append((perf_counter() - due) * 1000)
        if line.first:
            self.first.append((line.first - due) * 1000)

    async def due(self, when: float) -> None:
        # The last one used is the one least likely to be closed by the server just now.
        while self.idle and self.idle[-1].closed:
            self.idle.pop()
        line = self.idle.pop() if self.idle else await self.connect()
        self.late.append((perf_counter() - when) * 1000)
        await self.one(line, when)
        self.idle.append(line)

    async def open(self) -> None:
        self.idle = [await self.connect() for _ in range(READY)]
        running, self.began = [], perf_counter()
        for n in range(int(self.job.rate * self.job.seconds)):
            when = self.began + n / self.job.rate
            if (wait := when - perf_counter()) > 0:
                await asyncio.sleep(wait)
            running.append(asyncio.create_task(self.due(when)))
        await asyncio.gather(*running)

    async def closed(self) -> None:
        lines = [await self.connect() for _ in range(self.job.connections)]
        self.began = perf_counter()
        await asyncio.gather(*(self._again(line) for line in lines))
        self.idle = lines

    async def _again(self, line: Connection) -> None:
        job = self.job
        while not line.closed and self._more(job):
            await self.one(line, perf_counter())

    def _more(self, job: Job) -> bool:
        done = len(self.total) + self.errors.total()
        return done < job.count if job.count else perf_counter() - self.began < job.seconds

    def result(self) -> dict[str, Any]:
        return {
            "seconds": self.ended - self.began,
            "total": self.total,
            "first": self.first,
            "late": self.late,
            "errors": dict(self.errors),
        }


async def perform(job: Job) -> dict[str, Any]:
    run = Run(job)
    kinds: dict[str, Callable[[], Awaitable[None]]] = {"open": run.open, "closed": run.closed}
    gc.disable()  # its pauses would count as the server's
    try:
        await kinds[job.kind]()
    finally:
        gc.enable()
    run.ended = perf_counter()
    for line in run.idle:
        line.transport.close()
    return run.result()


def main() -> None:
    loop = None if sys.platform == "win32" else import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        for line in sys.stdin:
            print(json.dumps(runner.run(perform(Job(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
