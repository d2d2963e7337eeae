"""Sending: JSON in the envelope every REST caller knows, or a stream of server-sent events."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from bedside.api.problems import STATUS, as_json, headers
from bedside.core.errors import BedsideError

PING_SECONDS = 10.0
UNREAD_SECONDS = 60.0
"""How long a client may leave an event unread before it counts as gone: it holds a place and a node."""


def success(data: BaseModel | list[BaseModel] | Mapping[str, Any] | None) -> bytes:
    return b'{"success":true,"data":' + to_json(data, by_alias=True) + b"}"


def failure(error: BedsideError, request_id: str) -> bytes:
    return to_json({"success": False, "error": as_json(error, request_id)})


async def send_json(send: Send, status: int, body: bytes, extra: Mapping[str, str] | None = None) -> None:
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    fields += [(name.encode(), value.encode()) for name, value in (extra or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_failure(send: Send, error: BedsideError, request_id: str) -> None:
    await send_json(send, STATUS[error.kind], failure(error, request_id), headers(error))


class EventStream:
    """Server-sent events (WHATWG HTML, section 9.2). The answer starts with the first event, so that an
    error before it still gets its own status; or with a comment, when nothing comes for ten seconds."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self._quiet, self._unread = True, False
        self._pinger = asyncio.create_task(self._ping())

    async def event(self, name: str, data: bytes) -> None:
        self._quiet = False
        await self._write(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")

    async def close(self) -> None:
        self._pinger.cancel()
        with suppress(asyncio.CancelledError, ClientDisconnect):
            await self._pinger
        if self.started and not self._unread:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self) -> None:
        """Keeps proxies from closing a connection that waits for a long prompt to be read."""
        while True:
            self._quiet = True
            await asyncio.sleep(PING_SECONDS)
            if self._quiet:
                await self._write(b": still working\n\n")

    async def _write(self, chunk: bytes) -> None:
        if not self.started:
            self.started = True
            fields = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": fields})
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            self._unread = True
            raise ClientDisconnect from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Does ``work``, and cancels it the moment the client leaves."""
    me, left = asyncio.current_task(), False
    assert me is not None  # noqa: S101 - a server calls us in a task

    async def gone() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            continue
        left = True
        me.cancel()

    watcher = asyncio.create_task(gone())
    try:
        await work
    except asyncio.CancelledError:
        if not left or me.uncancel():
            raise
    finally:
        watcher.cancel()
