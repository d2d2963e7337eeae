"""Pure ASGI, round every call: gives it an id, bounds its size, writes its one log line, and turns what
was not caught into a neutral answer."""

import asyncio
import time
from ipaddress import IPv4Network, IPv6Network, ip_address

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bedside.api.answers import send_failure
from bedside.api.problems import known
from bedside.core.clock import new_id
from bedside.core.errors import BedsideError

Networks = tuple[IPv4Network | IPv6Network, ...]
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Edge:
    """``max_body`` in bytes; ``proxies`` are the networks whose ``X-Forwarded-For`` is believed."""

    def __init__(self, app: ASGIApp, max_body: int, proxies: Networks = ()) -> None:
        self._app, self._max_body, self._proxies = app, max_body, proxies
        self._log = structlog.get_logger().bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, receive, send, self._max_body)
        scope["request_id"], scope["address"] = call.id, self._address(scope)
        try:
            await self._app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            # Not the client, who is noticed further in: the gateway stops and does not wait any longer.
            call.code = "SHUTTING_DOWN"
            if not call.status:
                await send_failure(call.send, BedsideError("SHUTTING_DOWN"), call.id)
            raise
        except ClientDisconnect:
            call.code = "CLIENT_GONE"
        except Exception as why:
            error = known(why)
            call.code = error.code
            if error.code == "INTERNAL":
                self._log.error("unexpected", requestId=call.id, exception=type(why).__name__, place=_place(why))
            if not call.status:
                await send_failure(call.send, error, call.id)
        finally:
            self._write_line(scope, call)

    def _write_line(self, scope: Scope, call: "_Call") -> None:
        """The route's pattern, not the path: a path may hold what a caller typed."""
        self._log.info(
            "request",
            requestId=call.id,
            method=scope["method"] if scope["method"] in ("GET", "POST") else "other",
            route=scope.get("route_path", "unknown"),
            status=call.status,
            code=call.code or scope.get("error_code") or (None if call.status else "CLIENT_GONE"),
            response_time=round((time.perf_counter() - call.began) * 1000, 2),
        )

    def _address(self, scope: Scope) -> str:
        """The nearest address in the chain that is not a trusted proxy's."""
        address: str = (scope.get("client") or ("local", 0))[0]
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for hop in reversed(forwarded.decode("latin-1").split(",") if forwarded else []):
            if not _within(address, self._proxies) or not _is_address(hop.strip()):
                break
            address = hop.strip()
        return address


class _Call:
    """One call's id, its bounded body and what was sent back."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self.id, self.began = new_id(), time.perf_counter()
        self.status = 0
        self.code: str | None = None
        self._receive, self._send, self._limit, self._read = receive, send, limit, 0
        length = dict(scope["headers"]).get(b"content-length", b"")
        self._too_long = length.isdigit() and int(length) > limit

    async def receive(self) -> Message:
        if self._too_long:
            raise BedsideError("BODY_TOO_LARGE", limit=self._limit)
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            raise BedsideError("BODY_TOO_LARGE", limit=self._limit)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode()), *_HEADERS]
        await self._send(message)


def _place(why: BaseException) -> str:
    """Where it happened, as file and line: enough to find it, and none of its words."""
    trace = why.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace else "unknown"


def _within(address: str, networks: Networks) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)


def _is_address(text: str) -> bool:
    if "%" in text:  # a zone may be any words
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
