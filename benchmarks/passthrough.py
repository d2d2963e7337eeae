"""The measure to compare with: the least that a Starlette and aiohttp gateway can do.

It takes a body, sends it on to the engine, and gives back what comes: no sign-in, no roles, no record, no check.
Prints its address.
"""

import argparse
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def app(engine: str) -> Starlette:
    sessions: list[aiohttp.ClientSession] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            sessions.append(session)
            yield

    async def chat(request: Request) -> Response:
        headers = {"Content-Type": "application/json"}
        async with sessions[0].post(f"{engine}/api/chat", data=await request.body(), headers=headers) as answer:
            return Response(await answer.read(), answer.status, media_type="application/x-ndjson")

    return Starlette(routes=[Route("/api/chat", chat, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(
        app(parser.parse_args().engine), http="httptools", loop="auto", access_log=False, log_level="warning"
    )
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
