"""Calls that have a model work: as one answer, or as a stream of events."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from bedside.api import schemas as s
from bedside.api.answers import EventStream, send_json, success, unless_gone
from bedside.api.calls import Incoming
from bedside.api.images import decode_image
from bedside.api.problems import as_json, known
from bedside.clinical.base import Written
from bedside.core.errors import BedsideError
from bedside.core.request import TaskRequest
from bedside.gateway.handle import Event, Gateway, Queued
from bedside.gateway.use import Done

Shape = Callable[[Done], s.Processed]


class Work:
    """The handlers of ``/api/local/process`` and ``/api/tasks/...``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def process(self, call: Incoming) -> None:
        body: s.ProcessBody = call.body
        await self._answer(call, _process_request(body), body.stream, processed)

    async def soap_note(self, call: Incoming) -> None:
        body: s.SoapNoteBody = call.body
        await self._answer(call, TaskRequest("soap-note", body.text, body.model), body.stream, soap_note)

    async def _answer(self, call: Incoming, request: TaskRequest, stream: bool, shape: Shape) -> None:
        """Runs until the answer is sent or the client leaves; then the place and the node are freed."""
        send = self._stream if stream else self._whole
        events = self._gateway.process(call.context, request)
        await unless_gone(call.receive, send(call, events, shape))

    async def _whole(self, call: Incoming, events: AsyncGenerator[Event], shape: Shape) -> None:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Done):
                    await send_json(call.send, 200, success(shape(event)))

    async def _stream(self, call: Incoming, events: AsyncGenerator[Event], shape: Shape) -> None:
        out = EventStream(call.send)
        try:
            async with aclosing(events):
                async for event in events:
                    await out.event(*_as_event(event, shape))
        except asyncio.CancelledError:
            if out.started:  # when it was the client who left, nobody reads this
                await out.event("error", to_json(as_json(BedsideError("SHUTTING_DOWN"), call.context.request_id)))
            raise
        except ClientDisconnect:
            raise
        except Exception as why:
            if not out.started:
                raise
            call.scope["error_code"] = known(why).code
            await out.event("error", to_json(as_json(known(why), call.context.request_id)))
        finally:
            await out.close()


def _process_request(body: s.ProcessBody) -> TaskRequest:
    if body.type == "vision" and not body.image_data:
        raise BedsideError("BAD_FIELD", field="imageData", why="type vision needs an image")
    if body.type == "text" and body.image_data:
        raise BedsideError("BAD_FIELD", field="imageData", why="type text takes no image; use type vision")
    image = decode_image(body.image_data) if body.image_data else None
    return TaskRequest(body.task or "ask", body.prompt, body.model_name, body.type, image, body.options.to_options())


def _as_event(event: Event, shape: Shape) -> tuple[str, bytes]:
    if isinstance(event, Written):
        return "token", to_json({"text": event.text})
    if isinstance(event, Queued):
        return "queued", to_json({"position": event.position})
    return "done", to_json(shape(event), by_alias=True)


def processed(done: Done) -> s.Processed:
    return s.Processed(**_common(done), task=done.task)


def soap_note(done: Done) -> s.SoapNoteOut:
    return s.SoapNoteOut(**_common(done), **dict[str, Any](done.result.parts), task=done.task)


def _common(done: Done) -> dict[str, Any]:
    usage, result = done.usage, done.result
    return {
        "response": result.text,
        "model": done.model,
        "digest": done.digest,
        "tokens": usage.completion_tokens,
        "prompt_tokens": usage.prompt_tokens,
        "duration": done.duration_ns,
        "timings": _timings(done),
        "timestamp": done.timestamp,
        "request_id": done.request_id,
        "finish_reason": usage.reason.value,
        "sections": dict(result.parts),
        "flags": [s.FlagOut(section=flag.part, text=flag.text, reason=flag.reason) for flag in result.flags],
    }


def _timings(done: Done) -> s.Timings:
    usage = done.usage
    return s.Timings(
        queue_ms=done.wait_ms,
        first_token_ms=done.first_token_ms,
        prompt_ms=round(usage.prompt_ns / 1e6, 3),
        completion_ms=round(usage.completion_ns / 1e6, 3),
        tokens_per_second=round(usage.completion_tokens / (usage.completion_ns / 1e9), 2)
        if usage.completion_ns
        else None,
        cached_tokens=usage.cached_tokens,
    )
