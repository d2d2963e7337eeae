"""A small server that speaks like an Ollama node, and misbehaves on request. No model: it plays an answer.

In a test: ``async with OllamaLike(answer=...) as node: ... node.url``. As a program, for journeys and for the
benchmark: ``python tests/ollama_like.py --port 0 --tokens 64 --first-ms 5 --pace-ms 1`` prints its address.

Shapes after docs.ollama.com/api; refusals and counts as Ollama 0.40 gives them. It is written on a bare asyncio
protocol: a broken connection can then be broken for real, a client that leaves is noticed at once, and as the
engine under a benchmark it costs little.
"""

import argparse
import asyncio
import json
import re
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self, cast

Json = dict[str, Any]
Mishap = Literal[
    "deaf",
    "bad gateway",
    "one model damaged",
    "error first",
    "error in stream",
    "too long in stream",
    "no final record",
    "only loaded",
    "stall",
    "silence",
    "garbage",
    "not an object",
    "no record",
    "endless line",
    "long line",
    "reset",
    "html",
    "not http",
    "redirect",
    "went to the cloud",
    "cuts silently",
    "drops the start",
    "no count",
    "no end mark",
]
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PIECE = re.compile(r"\s?\w{1,5}|\s?[^\w\s]|\s+")
NOW = "2026-11-22T21:47:03.120456Z"
ECHO_PREFIX = "You said: "


@dataclass(frozen=True)
class Model:
    """A model that the node pretends to have. ``context`` is its own length, in tokens."""

    name: str
    context: int = 32768
    capabilities: tuple[str, ...] = ("completion",)
    remote_host: str | None = None
    digest: str = "ab" * 32
    details: Json = field(
        default_factory=lambda: {
            "format": "gguf",
            "family": "qwen2",
            "families": ["qwen2"],
            "parameter_size": "494.03M",
            "quantization_level": "Q4_K_M",
        }
    )

    def listed(self) -> Json:
        remote = {"remote_host": self.remote_host, "remote_model": self.name} if self.remote_host else {}
        named = {"name": self.name, "model": self.name, "modified_at": NOW}
        return {**named, "size": 397821319, "digest": self.digest, "details": self.details, **remote}

    def shown(self) -> Json:
        info = {"general.architecture": "qwen2", "general.parameter_count": 494032768, "general.license": "apache-2.0"}
        info |= {"qwen2.context_length": self.context}
        return {"details": self.details, "model_info": info, "capabilities": list(self.capabilities)}


MODELS = (
    Model("tiny:latest"),
    Model("eyes:4b", capabilities=("completion", "vision"), digest="cd" * 32),
    Model("gpt-oss:120b-cloud", remote_host="https://ollama.com:443", digest="ef" * 32),
    Model("innocent:latest", remote_host="https://ollama.com:443", digest="01" * 32),
)


def pieces(text: str) -> Sequence[str]:
    """The text in tokens: joined, they are the text again."""
    return PIECE.findall(text)


def echo(asked: Json) -> str:
    return ECHO_PREFIX + str(asked["messages"][-1]["content"])


@dataclass
class OllamaLike:
    """``first`` and ``pace`` in seconds: before the first record, and between records.

    ``asked`` holds (path, headers, body) of every request; ``left`` is set when a client left before the end.
    """

    models: Sequence[Model] = MODELS
    answer: Callable[[Json], str] = echo
    first: float = 0.0
    pace: float = 0.0
    version: str = "0.40.10"
    key: str | None = None
    mishap: Mishap | None = None
    remember: bool = True
    asked: list[tuple[str, str, Json]] = field(default_factory=list)
    running: int = 0
    loaded: set[str] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _server: asyncio.Server | None = None
    _lines: set["Line"] = field(default_factory=set)

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Line(self), host, port)
        self.url = f"http://{host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in tuple(self._lines):
            line.transport.abort()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def bodies(self, path: str = "/api/chat") -> list[Json]:
        return [body for asked, _, body in self.asked if asked == path]

    def find(self, name: str) -> Model | None:
        full = name if ":" in name else f"{name}:latest"
        return next((model for model in self.models if model.name == full), None)


class Line(asyncio.Protocol):
    """One connection: reads a request, answers it, waits for the next."""

    transport: asyncio.Transport

    def __init__(self, node: OllamaLike) -> None:
        self.node = node
        self.held = bytearray()
        self.need = 0
        self.playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by duty, not by descent
        self.node._lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node._lines.discard(self)
        if self.playing is not None and not self.playing.done():
            self.playing.cancel()
            self.node.left.set()

    def data_received(self, data: bytes) -> None:
        self.held += data
        if len(self.held) < self.need:
            return
        end = self.held.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self.held[:end])
        length = LENGTH.search(head)
        self.need = end + int(length[1]) if length else end
        if len(self.held) >= self.need:
            raw = bytes(self.held[end : self.need])
            del self.held[: self.need]
            self.need = 0
            self.take(head.decode("latin-1"), raw)

    def take(self, head: str, raw: bytes) -> None:
        path = head.split(" ", 2)[1]
        body: Json = json.loads(raw) if raw else {}
        if self.node.remember:
            self.node.asked.append((path, head, body))
        if self.node.mishap == "deaf":
            return
        if self.node.key and f"Bearer {self.node.key}" not in head:
            self.send(401, {"error": "unauthorized"})
        elif self.node.mishap == "not http":
            self.transport.write(b"220 mail.example ESMTP ready\r\n")
        elif path == "/api/chat":
            self.chat(body)
        else:
            self.plain(path, body)

    def plain(self, path: str, body: Json) -> None:
        node = self.node
        if path == "/api/version":
            self.send(200, {"version": node.version})
        elif path == "/api/tags":
            self.send(200, {"models": [model.listed() for model in node.models]})
        elif path == "/api/ps":
            self.send(200, {"models": [m.listed() for m in node.models if m.name in node.loaded]})
        elif path == "/api/show" and node.mishap == "one model damaged" and body["model"] == "tiny:latest":
            self.send(500, {"error": "invalid file magic"})
        elif path == "/api/show" and (model := node.find(body["model"])):
            self.send(200, model.shown())
        else:
            self.send(404, {"error": f"model '{body.get('model')}' not found"})

    def send(self, status: int, body: Json) -> None:
        self.respond(status, "application/json; charset=utf-8", json.dumps(body).encode())

    def respond(self, status: int, kind: str, raw: bytes, more: str = "") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(raw)}\r\n\r\n"
        self.transport.write(head.encode() + raw)

    def chat(self, body: Json) -> None:
        model = self.node.find(body["model"])
        if model is None:
            self.send(404, {"error": f"model {body['model']!r} not found"})
        elif "vision" not in model.capabilities and any(m.get("images") for m in body["messages"]):
            self.send(400, engine_error("Multimodal data provided, but model does not support it."))
        elif self.node.mishap == "error first":
            self.send(500, {"error": f"it broke while reading {body['messages'][-1]['content']}"})
        elif self.node.mishap == "bad gateway":
            self.respond(502, "text/html", b"<html><body>502 Bad Gateway</body></html>")
        elif self.node.mishap == "html":
            self.respond(200, "text/html", b"<html><body>Sign in to the guest network</body></html>")
        elif self.node.mishap == "redirect":
            self.respond(307, "text/plain", b"", "Location: http://192.0.2.1/api/chat\r\n")
        else:
            self.answer(body, model)

    def answer(self, body: Json, model: Model) -> None:
        options = body.get("options", {})
        limit = min(options.get("num_ctx", 4096), model.context)
        tokens = sum(len(pieces(m["content"])) + 4 for m in body["messages"])
        if tokens > limit - 1:
            if body.get("truncate") is False and self.node.mishap != "cuts silently":
                self.send(400, overflow(tokens, limit))
                return
            tokens = limit if self.node.mishap == "cuts silently" else limit // 2 + 2
        text = self.node.answer(body)
        said = len(pieces(text))
        room = min(options.get("num_predict", said), limit - tokens if body.get("shift") is False else said)
        self.node.loaded.add(model.name)
        records = script(self.node.mishap, model.name, text, room, tokens)
        if self.node.first or self.node.pace or self.node.mishap is not None:
            self.playing = asyncio.create_task(self.play(records))
        else:
            self.transport.write(b"".join((STREAM_HEAD, *records, b"0\r\n\r\n")))

    async def play(self, records: Sequence[bytes]) -> None:
        node = self.node
        node.running += 1
        try:
            await asyncio.sleep(node.first)
            if node.mishap == "silence":
                await asyncio.Event().wait()
            self.transport.write(STREAM_HEAD)
            for record in records:
                self.transport.write(record)
                await asyncio.sleep(node.pace)
            await self.end()
        finally:
            node.running -= 1

    async def end(self) -> None:
        if self.node.mishap in ("stall", "no end mark"):
            await asyncio.Event().wait()
        elif self.node.mishap == "reset":
            # Linger 0 makes the close a reset (RST) and not an orderly end.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.write(b"0\r\n\r\n")


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(raw: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def engine_error(message: str, **facts: object) -> Json:
    """From 0.30 on, the engine's own JSON error arrives as a string in ``error``."""
    inner = {"code": 400, "message": message, "type": "invalid_request_error", **facts}
    return {"error": json.dumps({"error": inner})}


def overflow(tokens: int, limit: int) -> Json:
    return engine_error(
        f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it",
        type="exceed_context_size_error",
        n_prompt_tokens=tokens,
        n_ctx=limit,
    )


def token(model: str, text: str, **more: object) -> Json:
    return {"model": model, "created_at": NOW, "message": {"role": "assistant", "content": text}, "done": False, **more}


def final(model: str, reason: str, prompt: int, said: int) -> Json:
    counts = {"prompt_eval_count": prompt, "prompt_eval_cached_count": prompt // 2, "eval_count": said}
    times = {"total_duration": 9_000_000, "load_duration": 1_000_000}
    times |= {"prompt_eval_duration": 3_000_000, "eval_duration": 5_000_000}
    return token(model, "", done_reason=reason, **times, **counts) | {"done": True}


@lru_cache(maxsize=64)
def told(model: str, text: str, room: int) -> Sequence[bytes]:
    """The lines of an answer without its final record; kept, because a benchmark asks for the same one again."""
    return [json.dumps(token(model, piece), ensure_ascii=False).encode() + b"\n" for piece in pieces(text)[:room]]


def script(mishap: Mishap | None, model: str, text: str, room: int, prompt: int) -> Sequence[bytes]:
    """The chunks of one answer, the last one final; a mishap changes what follows the first few."""
    lines = told(model, text, room)
    end = final(model, "length" if room < len(pieces(text)) else "stop", prompt, len(lines))
    raw = [*lines, json.dumps(end).encode() + b"\n"]
    if mishap is not None:
        raw = spoiled(mishap, raw, end)
    # A line without its end promises 4,000,000 bytes and breaks the promise.
    return [chunk(line) if line[-1:] == b"\n" else b"3d0900\r\n" + line for line in raw]


def spoiled(mishap: Mishap, raw: list[bytes], end: Json) -> list[bytes]:
    def line(record: object) -> bytes:
        return json.dumps(record).encode() + b"\n"

    begun, first = raw[:2], json.loads(raw[0])
    without = {name: value for name, value in end.items() if name != "prompt_eval_count"}
    cloudy = {**first, "remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com:443"}
    changed: dict[Mishap, list[bytes]] = {
        "error in stream": [*begun, line({"error": f"it broke at {first['message']['content']}"})],
        "too long in stream": [line(overflow(9999, 512))],
        "no final record": raw[:-1],
        "only loaded": [line({**end, "done_reason": "load"})],
        "stall": begun,
        "garbage": [*begun, b'{"model": "tiny", "mess\n'],
        "not an object": [*begun, b"[1, 2]\n"],
        "no record": [*begun, line({"message": "a sentence"})],
        "endless line": [*begun, b"x" * 3_000_000],
        "long line": [line(token("tiny", "y" * 300_000)), raw[-1]],
        "reset": [*begun, b'{"model": "tiny", "message": {"ro'],
        "went to the cloud": [line(cloudy), *raw[1:]],
        "drops the start": [*raw[:-1], line({**end, "eval_count": 40_000})],
        "no count": [*raw[:-1], line(without)],
    }
    return changed.get(mishap, raw)


async def serve(host: str, port: int, node: OllamaLike) -> None:
    await node.open(host, port)
    print(node.url, flush=True)
    done = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(name, done.set)
        except NotImplementedError:  # Windows
            signal.signal(name, lambda *_: done.set())
    await done.wait()
    await node.close()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="A server that speaks like Ollama and plays an answer.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=0, help="length of every answer; 0 repeats the question")
    parser.add_argument("--first-ms", type=float, default=0.0)
    parser.add_argument("--pace-ms", type=float, default=0.0)
    parser.add_argument("--mishap", choices=Mishap.__args__)  # type: ignore[attr-defined]
    given = parser.parse_args(arguments)
    fixed = " word" * given.tokens
    node = OllamaLike(
        answer=(lambda _: fixed) if fixed else echo,
        first=given.first_ms / 1000,
        pace=given.pace_ms / 1000,
        mishap=given.mishap,
        remember=False,
    )
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(given.host, given.port, node))
    else:
        uvloop.run(serve(given.host, given.port, node))


if __name__ == "__main__":
    main(sys.argv[1:])
