"""The description of the calls is exact: every answer that the program gives fits it."""

import asyncio
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.program import PASSWORD, Program, program

from bedside.core.request import Role
from bedside.runtimes.fake import FakeRuntime

pytestmark = pytest.mark.anyio


async def description(p: Program) -> dict[str, Any]:
    await p.user("dr.lee", Role.PROVIDER)
    answer = await p.ask("GET", "/api/openapi.json", as_="dr.lee")
    document: dict[str, Any] = answer.body
    return document


def check(document: dict[str, Any], method: str, path: str, status: int, body: object) -> None:
    """Fails unless ``body`` is what the description says for this call and status, with nothing more."""
    responses = document["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} does not describe {status}"
    schema = responses[str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": closed(document["components"])})


def closed(components: Any) -> Any:
    """The same schemas with unknown members refused, so that an undescribed field fails."""
    schemas = {
        name: {**schema, "additionalProperties": False} if schema.get("type") == "object" else schema
        for name, schema in components["schemas"].items()
    }
    return {"schemas": schemas}


async def test_it_is_for_signed_in_users(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        assert (await p.ask("GET", "/api/openapi.json")).code == "TOKEN_MISSING"


async def test_every_call_is_described_with_who_may_and_what_can_go_wrong(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        document = await description(p)
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert operation["summary"], (path, method)
                assert "500" in operation["responses"]
                if operation["security"]:
                    assert {"401", "403", "503"} <= set(operation["responses"])
                if "requestBody" in operation:
                    assert operation["requestBody"]["content"]["application/json"]["example"]


async def test_good_answers_fit_the_description(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        document = await description(p)
        await p.user("root.admin", Role.ADMIN)
        work = {"modelName": "fake:text", "prompt": "a"}
        login = {"username": "dr.lee", "password": PASSWORD}
        calls: list[tuple[str, str, object]] = [
            ("GET", "/api/health", None),
            ("GET", "/api/health/detailed", None),
            ("POST", "/api/auth/login", login),
            ("GET", "/api/auth/profile", None),
            ("GET", "/api/local/status", None),
            ("GET", "/api/local/models", None),
            ("GET", "/api/local/models/{name}/info", None),
            ("POST", "/api/local/process", work),
            ("POST", "/api/tasks/soap-note", {"text": "Cough."}),
        ]
        for method, path, body in calls:
            answer = await p.ask(method, path.replace("{name}", "fake:text"), body, as_="root.admin")
            assert answer.status == 200, answer.body
            check(document, method, path, 200, answer.body)
        refresh = {"refreshToken": (await p.ask("POST", "/api/auth/login", login)).data["refreshToken"]}
        check(document, "POST", "/api/auth/refresh", 200, (await p.ask("POST", "/api/auth/refresh", refresh)).body)
        change = {"currentPassword": PASSWORD, "newPassword": "another good long phrase"}
        changed = await p.ask("POST", "/api/auth/password", change, as_="dr.lee")
        check(document, "POST", "/api/auth/password", 200, changed.body)
        left = await p.ask("POST", "/api/auth/logout", token=changed.data["token"])
        check(document, "POST", "/api/auth/logout", 200, left.body)


async def test_failures_fit_the_description(tmp_path: Path) -> None:
    async with program(tmp_path, [FakeRuntime(context_tokens=1200)]) as p:
        document = await description(p)
        await p.user("front.desk", Role.STAFF)
        process, long = "/api/local/process", {"modelName": "fake:text", "prompt": "w " * 2000}
        calls: list[tuple[str, str, object, str | None]] = [
            ("POST", process, {"modelName": "fake:text"}, "dr.lee"),
            ("POST", process, {"modelName": "none", "prompt": "a"}, "dr.lee"),
            ("POST", process, {"modelName": "smollm2:135m", "prompt": "a"}, "dr.lee"),
            ("POST", process, long, "dr.lee"),
            ("POST", process, long, "front.desk"),
            ("POST", process, long, None),
            ("POST", "/api/auth/login", {"username": "x", "password": "y"}, None),
            ("POST", "/api/auth/login", {"user": "x"}, None),
            ("POST", "/api/auth/refresh", {"refreshToken": "x"}, None),
            ("GET", "/api/health/detailed", None, "dr.lee"),
        ]
        for method, path, body, who in calls:
            answer = await p.ask(method, path, body, as_=who)
            assert answer.status >= 400
            check(document, method, path, answer.status, answer.body)


async def test_events_of_a_stream_fit_the_description(tmp_path: Path) -> None:
    fake = FakeRuntime(pace=0.02)
    async with program(tmp_path, [fake], OLLAMA_NUM_PARALLEL="1") as p:
        document = await description(p)
        body = {"text": "Cough.", "stream": True}
        streams = await asyncio.gather(*(p.events("/api/tasks/soap-note", body, "dr.lee") for _ in range(2)))
        names = {"token": "TokenEvent", "queued": "QueuedEvent", "done": "SoapNoteOut"}
        assert {name for events in streams for name, _ in events} == set(names)
        for name, data in (event for events in streams for event in events):
            schema = {"$ref": f"#/components/schemas/{names[name]}", "components": closed(document["components"])}
            jsonschema.validate(data, schema)
