"""The program under test: all of it, in this process, on a real socket, with the shipped scripted model."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from argon2 import PasswordHasher

from bedside.audit.events import AuditRecord
from bedside.core.chain import read
from bedside.core.clock import Clock, SystemClock
from bedside.core.request import Role
from bedside.core.settings import Settings, resolve
from bedside.gateway.recorded import recorded
from bedside.identity.passwords import Passwords
from bedside.listen import Http, http_config
from bedside.runtimes.base import Runtime
from bedside.runtimes.fake import FakeRuntime
from bedside.server import Server
from bedside.vault import Vault, open_vault, operator_record

PASSWORD = "correct horse battery staple"


def quick_passwords() -> Passwords:
    """The real hash with small costs: tests sign in hundreds of times."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


async def until(condition: Callable[[], object]) -> None:
    """Waits for an event that the program tells nobody about; the test's own time limit bounds it."""
    while not condition():
        await asyncio.sleep(0.005)


def settings_for(folder: Path, **words: str) -> Settings:
    """Settings of a test: a data folder of its own, no Ollama, the scripted model as default."""
    mine = {"BEDSIDE_DATA": str(folder / "data"), "BEDSIDE_MODELS_DIR": str(folder / "models"), "OLLAMA_URL": ""}
    return resolve([("test", {**mine, "BEDSIDE_MODEL": "fake:text", **words})])


@dataclass(frozen=True)
class Answered:
    """An answer: ``body`` is parsed JSON, or text; ``data`` and ``error`` are from the envelope."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def data(self) -> Any:
        assert self.body["success"] is True, self.body
        return self.body["data"]

    @property
    def code(self) -> str:
        assert self.body["success"] is False, self.body
        return str(self.body["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])


@dataclass
class Program:
    """A running gateway. ``ask`` speaks HTTP to it; ``records`` reads its audit log back."""

    url: str
    server: Server
    vault: Vault
    settings: Settings
    http: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        as_: str | None = None,
        token: str | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        sent = dict(headers or {})
        if token or as_:
            sent["Authorization"] = f"Bearer {token or self.tokens[as_ or '']}"
        raw = json.dumps(body).encode() if body is not None else data
        async with self.http.request(method, path, data=raw, headers=sent) as answer:
            text = await answer.text()
        with suppress(ValueError):
            return Answered(answer.status, json.loads(text), answer.headers)
        return Answered(answer.status, text, answer.headers)

    async def user(self, name: str, role: Role) -> str:
        """Adds a user who has changed the one-time password; returns (and keeps) an access token."""
        one_time = await recorded(
            self.vault.audit,
            operator_record("site:users:manage", name),
            lambda: self.vault.accounts.add(name, role),
        )
        first = await self.ask("POST", "/api/auth/login", {"username": name, "password": one_time})
        change = {"currentPassword": one_time, "newPassword": PASSWORD}
        changed = await self.ask("POST", "/api/auth/password", change, token=first.data["token"])
        self.tokens[name] = str(changed.data["token"])
        return self.tokens[name]

    def records(self) -> list[AuditRecord]:
        """Every audit record so far, read back from the file."""
        log = self.settings.path("BEDSIDE_DATA") / "audit" / "log.jsonl"
        return [AuditRecord.from_fields(read(line).fields) for line in log.read_bytes().splitlines()]

    async def events(self, path: str, body: object, as_: str) -> list[tuple[str, Any]]:
        """The server-sent events of a streaming call, in order."""
        headers = {"Authorization": f"Bearer {self.tokens[as_]}"}
        async with self.http.post(path, json=body, headers=headers) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream", await answer.text()
            return parse_events(await answer.text())


def parse_events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@asynccontextmanager
async def program(
    folder: Path, runtimes: Sequence[Runtime] | None = None, *, clock: Clock | None = None, **words: str
) -> AsyncIterator[Program]:
    """Starts the program on a free port, and stops it."""
    settings, clock = settings_for(folder, **words), clock or SystemClock()
    vault = open_vault(settings, clock, passwords=quick_passwords())
    server = Server(settings, vault, [FakeRuntime()] if runtimes is None else runtimes, clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        http = Http(http_config(server, drain_seconds=1))
        async with server.running():
            serving = asyncio.create_task(http.serve(sockets=[listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                async with aiohttp.ClientSession(url) as session:
                    yield Program(url, server, vault, settings, session)
            finally:
                http.should_exit = True
                await serving
    vault.close()
