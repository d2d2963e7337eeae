"""The program started as a user starts it: a process of its own, with every file it may write in one folder."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.ollama_like import OllamaLike

PASSWORD = "correct horse battery staple"
SHARED_CACHE = os.environ.get("BEDSIDE_MODELS_DIR", os.path.expanduser("~/.cache/bedside/models"))


def environment(folder: Path, **words: str) -> dict[str, str]:
    """Home, temporary files and data in ``folder``; no settings from outside; models from the shared cache."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BEDSIDE_", "OLLAMA_", "HIPAA_"))}
    (folder / "tmp").mkdir(exist_ok=True)
    mine = {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "BEDSIDE_DATA": str(folder / "data"),
        "BEDSIDE_PORT": "0",
        "BEDSIDE_MODELS_DIR": SHARED_CACHE,
        "OLLAMA_URL": "",
        "BEDSIDE_LOG": "json",
    }
    return {**kept, **mine, **words}


def bedside(env: Mapping[str, str], *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """One command, run to its end."""
    command = [sys.executable, "-m", "bedside", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=cwd or env["HOME"], timeout=120)


@dataclass
class Gateway:
    """A running ``bedside serve``. ``log`` is the file that holds what it wrote to standard error."""

    process: "subprocess.Popen[str]"
    url: str
    admin_password: str | None
    env: Mapping[str, str]
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        """The program's own log, parsed."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def started(folder: Path, *, log: Path | None = None, **words: str) -> Iterator[Gateway]:
    """Starts the gateway and waits until it says its address; kills it at the end if it still runs."""
    env, log = environment(folder, **words), log or folder / "gateway.log"
    command = [sys.executable, "-m", "bedside", "serve", "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, log.read_text()
        said = json.loads(line)
        yield Gateway(process, said["url"], said["adminPassword"], env, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def node_beside(**how: Any) -> Iterator[OllamaLike]:
    """An Ollama-like node in a thread of its own, so that it answers while a test waits for a process."""
    ready: queue.SimpleQueue[tuple[OllamaLike, asyncio.AbstractEventLoop, asyncio.Event]] = queue.SimpleQueue()

    async def live() -> None:
        async with OllamaLike(**how) as node:
            done = asyncio.Event()
            ready.put((node, asyncio.get_running_loop(), done))
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    node, loop, done = ready.get()
    try:
        yield node
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


@asynccontextmanager
async def signed_in(
    gateway: Gateway, name: str = "dr.lee", role: str = "provider"
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of a user made on the command line, who has changed the one-time password."""
    added = bedside(gateway.env, "users", "add", name, "--role", role, "--json")
    one_time = json.loads(added.stdout)["oneTimePassword"]
    async with aiohttp.ClientSession(gateway.url) as http:
        async with http.post("/api/auth/login", json={"username": name, "password": one_time}) as answer:
            token = (await answer.json())["data"]["token"]
        change = {"currentPassword": one_time, "newPassword": PASSWORD}
        bearer = {"Authorization": f"Bearer {token}"}
        async with http.post("/api/auth/password", json=change, headers=bearer) as answer:
            token = (await answer.json())["data"]["token"]
    async with aiohttp.ClientSession(gateway.url, headers={"Authorization": f"Bearer {token}"}) as http:
        yield http
