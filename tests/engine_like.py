"""A program that behaves to the embedded runtime as an engine's child does, and misbehaves on request.

Same configuration line, address line, key and shapes as the real one; words are tokens. The last word of
the last message says what it does, see ``PARTS``.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

BEAT = 0.05  # seconds between tokens
TALK = 80  # tokens of a long answer
Words = list[str]


def program() -> tuple[str, ...]:
    """The command that runs it."""
    return (sys.executable, __file__)


def data(**event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def token(text: str) -> bytes:
    return data(choices=[{"index": 0, "finish_reason": None, "delta": {"content": text}}])


def progress(read: int) -> bytes:
    return data(choices=[{"index": 0, "delta": {"content": None}}], prompt_progress={"total": read})


def end(read: int, written: int) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return data(choices=[{"index": 0, "finish_reason": "stop", "delta": {}}]) + data(choices=[], usage=usage)


async def talk(words: Words) -> AsyncIterator[bytes]:
    """A long answer, steadily."""
    yield progress(len(words))
    for n in range(TALK):
        yield token(f" {n}")
        await asyncio.sleep(BEAT)
    yield end(len(words), TALK)


async def last(words: Words) -> AsyncIterator[bytes]:
    """Silence for as long as a long answer takes, then a short one."""
    await asyncio.sleep(TALK * BEAT)
    yield token("done") + end(len(words), 1)


async def say(words: Words) -> AsyncIterator[bytes]:
    yield progress(len(words)) + token("said") + end(len(words), 1) + b"data: [DONE]\n\n"


async def cut(words: Words) -> AsyncIterator[bytes]:
    """It read less than it was sent, and only the final record tells."""
    yield token("said") + end(len(words) - 1, 1)


async def forewarn(words: Words) -> AsyncIterator[bytes]:
    """It will read less than it was sent, and tells before it answers."""
    yield progress(len(words) - 1)
    yield token("said") + end(len(words), 1)


async def stop_short(words: Words) -> AsyncIterator[bytes]:
    yield progress(len(words)) + token("said")


async def fail(words: Words) -> AsyncIterator[bytes]:
    yield token("said") + data(error={"code": 500, "message": " ".join(words), "type": "server_error"})


async def babble(words: Words) -> AsyncIterator[bytes]:
    yield token("said") + b"data: {\n\n"


async def hang(words: Words) -> AsyncIterator[bytes]:
    yield token("said")
    await asyncio.sleep(600)


PARTS = {
    "talk": talk,
    "last": last,
    "say": say,
    "cut": cut,
    "forewarn": forewarn,
    "stop-short": stop_short,
    "break-off": stop_short,
    "fail": fail,
    "babble": babble,
    "hang": hang,
}


async def chat(request: web.Request) -> web.StreamResponse:
    words = _words(await request.json())
    if words[-1] == "refuse":
        return web.json_response({"error": {"code": 500, "message": " ".join(words)}}, status=500)
    if words[-1] == "vanish":
        assert request.transport
        request.transport.abort()
    if words[-1] == "die":
        os._exit(7)
    response = web.StreamResponse()
    async for part in PARTS[words[-1]](words):
        if not response.prepared:  # as the real one: the head comes with the first event
            await response.prepare(request)
        await response.write(part)
    if words[-1] == "break-off":
        assert request.transport
        request.transport.abort()
    return response


async def count(request: web.Request) -> web.Response:
    return web.json_response({"input_tokens": len(_words(await request.json()))})


def _words(body: dict[str, Any]) -> Words:
    return str(body["messages"][-1]["content"]).split()


@web.middleware
async def locked(request: web.Request, handler: Any) -> web.StreamResponse:
    if request.headers.get("Authorization") != f"Bearer {request.app[KEY]}":
        return web.json_response({"error": {"code": 401, "message": "Invalid API Key"}}, status=401)
    response: web.StreamResponse = await handler(request)
    return response


KEY = web.AppKey("key", str)


async def main() -> None:
    config = json.loads(await asyncio.to_thread(sys.stdin.readline))
    app = web.Application(middlewares=[locked])
    app[KEY] = config["key"]
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/chat/completions/input_tokens", count)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"address": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
