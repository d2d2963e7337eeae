"""The programs that take part, each a process of its own on loopback: gateway, stub engine, pass-through, load."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from benchmarks.load import Job

ROOT = Path(__file__).resolve().parent.parent
PROVIDER = "bench.provider"


@contextmanager
def started(
    command: Sequence[str], cwd: Path = ROOT, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes to its input and output, ended with the block."""
    with open(log or os.devnull, "ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def said(process: subprocess.Popen[str]) -> str:
    """Its next line. Raises ``SystemExit`` when it ended instead."""
    assert process.stdout
    if line := process.stdout.readline():
        return line.strip()
    raise SystemExit(f"{process.args!r} ended with exit code {process.wait()}")


class Load:
    """The load generator."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: Job) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(said(self._process)))


@contextmanager
def load() -> Iterator[Load]:
    with started(["-m", "benchmarks.load"]) as process:
        yield Load(process)


@contextmanager
def stub(tokens: int, first_ms: float = 0, pace_ms: float = 0) -> Iterator[str]:
    """An engine that answers like Ollama, without a model; its address."""
    options = ["--tokens", str(tokens), "--first-ms", str(first_ms), "--pace-ms", str(pace_ms)]
    with started(["tests/ollama_like.py", "--port", "0", *options]) as process:
        yield said(process)


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time so far, all its threads together."""
        spent = psutil.Process(self.pid).cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def passthrough(engine: str) -> Iterator[Server]:
    with started(["-m", "benchmarks.passthrough", engine]) as process:
        yield Server(said(process), process.pid)


@dataclass(frozen=True)
class Gateway(Server):
    """A running gateway, with a provider signed in."""

    token: str
    at_start: Mapping[str, float]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def memory(self) -> dict[str, float]:
        return memory(self.pid)


@contextmanager
def gateway(folder: Path, engine: str) -> Iterator[Gateway]:
    """``bedside serve`` as it is shipped, with room for many requests at once and the scripted models offered."""
    folder.mkdir(parents=True)
    environment = {
        "BEDSIDE_DATA": str(folder / "data"),
        "BEDSIDE_PORT": "0",
        "BEDSIDE_HOST": "127.0.0.1",
        "BEDSIDE_LOG": "json",
        "BEDSIDE_FAKE": "true",
        "OLLAMA_URL": engine,
        "OLLAMA_NUM_PARALLEL": "64",
        "OLLAMA_MAX_QUEUE": "10000",
    }
    with started(["-m", "bedside", "serve", "--json"], folder, environment, folder / "gateway.log") as process:
        url = str(json.loads(said(process))["url"])
        at_start = memory(process.pid)
        add = [sys.executable, "-m", "bedside", "users", "add", PROVIDER, "--role", "provider", "--json"]
        added = subprocess.run(
            add, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, check=True
        )
        token = asyncio.run(_sign_in(url, json.loads(added.stdout)["oneTimePassword"]))
        yield Gateway(url, process.pid, token, at_start)


async def _sign_in(url: str, password: str) -> str:
    async with aiohttp.ClientSession(url, trust_env=False, raise_for_status=True) as http:
        token = await _data(http, "/api/auth/login", {"username": PROVIDER, "password": password}, "")
        new = {"currentPassword": password, "newPassword": secrets.token_urlsafe(24)}
        return await _data(http, "/api/auth/password", new, token)


async def _data(http: aiohttp.ClientSession, path: str, body: Mapping[str, str], token: str) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.post(path, json=body, headers=headers) as answer:
        return str((await answer.json())["data"]["token"])


def memory(pid: int) -> dict[str, float]:
    """In MB (10^6 bytes): resident; shared pages by share (pss) and own pages only (uss), where the system tells."""
    found = psutil.Process(pid).memory_full_info()
    return {name: value / 1e6 for name in ("rss", "pss", "uss") if (value := getattr(found, name, 0))}
