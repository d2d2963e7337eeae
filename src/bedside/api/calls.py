"""A REST call as data: who may, what comes in, what goes out, which errors. Routing and OpenAPI read it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from bedside.core.errors import BedsideError
from bedside.core.request import Context
from bedside.identity.roles import ANYONE


@dataclass(frozen=True, slots=True)
class Incoming:
    """One call as its handler sees it: ``body`` is an instance of the call's ``body`` class, or ``None``."""

    context: Context
    body: Any
    params: Mapping[str, str]
    scope: Scope
    receive: Receive
    send: Send


Handler = Callable[[Incoming], Awaitable[None]]
Knock = Callable[[Context], Awaitable[object]]
STRANGERS_BODY = 65_536
"""Largest body, in bytes, of a call that anyone may send."""


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the REST table. ``action`` names who may (see ``identity/actions.py``); ``None``: anyone.

    ``answer`` is what ``data`` holds; ``events`` the server-sent events by name when the body asks for a
    stream. ``errors`` are codes beside those that every call can answer with.
    """

    method: str
    path: str
    action: str | None
    summary: str
    handler: Handler
    answer: Any
    body: type[BaseModel] | None = None
    events: Mapping[str, type[BaseModel]] | None = None
    errors: Sequence[str] = ()
    example: Mapping[str, object] | None = None


def router(calls: Sequence[Call], knock: Knock) -> ASGIApp:
    """An ASGI app that finds the call, reads its body, and hands it to its handler.

    ``knock`` is asked before the body of a call that needs a sign-in is read: strangers may not fill the memory.
    """
    paths: dict[str, dict[str, Call]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method] = call
    places = {path: _Place(path, methods, knock) for path, methods in paths.items()}
    by_pattern = Router(
        [Route(path, place) for path, place in places.items()], default=_nothing_here, redirect_slashes=False
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Most paths have no parameters: one look-up instead of a pattern for every call in the table.
        await places.get(scope["path"], by_pattern)(scope, receive, send)

    return app


class _Place:
    """All calls at one path."""

    def __init__(self, path: str, methods: Mapping[str, Call], knock: Knock) -> None:
        self._path, self._methods, self._knock = path, methods, knock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = self._path
        call = self._methods.get(scope["method"])
        if call is None:
            allowed = ", ".join(self._methods)
            raise BedsideError("METHOD_NOT_ALLOWED", path=self._path, method="that method", allowed=allowed)
        context = _context(scope)
        body = await self._read(call, context, receive) if call.body else None
        await call.handler(Incoming(context, body, scope.get("path_params", {}), scope, receive, send))

    async def _read(self, call: Call, context: Context, receive: Receive) -> BaseModel:
        assert call.body is not None  # noqa: S101 - asked for only then
        if call.action in ANYONE:
            return await _body(call.body, receive, STRANGERS_BODY)
        await self._knock(context)
        return await _body(call.body, receive, None)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    raise BedsideError("NOT_FOUND", path=str(scope["path"])[:200])


async def _body(model: type[BaseModel], receive: Receive, limit: int | None) -> BaseModel:
    raw, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        raw += message.get("body", b"")
        if limit is not None and len(raw) > limit:
            raise BedsideError("BODY_TOO_LARGE", limit=limit)
        more = message.get("more_body", False)
    try:
        return model.model_validate_json(raw)
    except ValidationError as wrong:
        raise _as_error(wrong, model) from None


def _as_error(wrong: ValidationError, model: type[BaseModel]) -> BedsideError:
    """The first thing that is wrong, without the value that was sent."""
    first = wrong.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "json_invalid":
        return BedsideError("BAD_JSON", why=first["msg"].removeprefix("Invalid JSON: "))
    if first["type"] == "extra_forbidden":
        return BedsideError("UNKNOWN_FIELD", field=field[:100], known=", ".join(_known(model, first["loc"])))
    return BedsideError("BAD_FIELD", field=field[:100], why=first["msg"])


def _known(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    for part in where[:-1]:
        inner = next(f for n, f in model.model_fields.items() if part in (n, f.alias))
        model = cast(type[BaseModel], inner.annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _context(scope: Scope) -> Context:
    headers = {name: value for name, value in scope["headers"] if name in (b"authorization", b"x-patient-reference")}
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return Context(
        request_id=scope["request_id"],
        address=scope["address"],
        token=token.strip() if scheme.lower() == "bearer" else None,
        patient=_patient(headers.get(b"x-patient-reference")),
    )


def _patient(raw: bytes | None) -> str | None:
    """An MRN or a FHIR reference such as ``Patient/123`` (FHIR R4, section 2.3.0)."""
    if raw is None:
        return None
    text = raw.decode("latin-1")
    if not 0 < len(text) <= 64 or not all(c.isascii() and (c.isalnum() or c in "._:/-") for c in text):
        raise BedsideError("BAD_FIELD", field="X-Patient-Reference", why="use 1 to 64 of A-Z a-z 0-9 . _ : / -")
    return text
