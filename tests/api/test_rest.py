"""The REST door, asked over a real socket."""

import asyncio
import base64
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.program import PASSWORD, program, until

from bedside.api import examples
from bedside.audit.events import Kind, Outcome
from bedside.core.request import Role
from bedside.runtimes.fake import FakeRuntime

pytestmark = pytest.mark.anyio
GUIDE_NOTE = "Generate a SOAP note for: 65-year-old male with chest pain, BP 150/95, HR 88"


def png() -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    return base64.b64encode(image).decode()


async def test_anyone_sees_that_the_gateway_is_up_and_nothing_more(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        answer = await p.ask("GET", "/api/health")
        assert answer.status == 200
        assert set(answer.data) == {"status", "version", "uptime"}


async def test_a_provider_gets_the_models_answer_with_its_origin(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": GUIDE_NOTE, "type": "text"}
        answer = await p.ask("POST", "/api/local/process", body, as_="dr.lee")
        assert answer.data["response"] == f"You said: {GUIDE_NOTE}"
        assert answer.data["model"] == "fake:text"
        assert answer.data["digest"] == "sha256:" + "0" * 64
        assert answer.data["tokens"] == len(answer.data["response"].split(" "))
        assert answer.data["promptTokens"] > len(GUIDE_NOTE.split())
        assert answer.data["finishReason"] == "stop"
        assert answer.data["duration"] > 0
        assert answer.data["requestId"] == answer.headers["X-Request-Id"]


async def test_a_stream_is_tokens_and_then_one_done(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "two words", "stream": True}
        events = await p.events("/api/local/process", body, "dr.lee")
        names = [name for name, _ in events]
        assert names == ["token"] * (len(events) - 1) + ["done"]
        assert "".join(data["text"] for name, data in events if name == "token") == events[-1][1]["response"]


async def test_a_soap_note_has_four_sections_and_marks_what_is_not_in_the_text(tmp_path: Path) -> None:
    answers = {
        "Subjective": "Chest pain.",
        "findings": "BP 150/95, HR 88.",
        "Assessment": "Sepsis, lactate 4.1.",
        "Plan": "Not documented.",
    }
    fake = FakeRuntime(
        script=lambda g: next(a for s, a in answers.items() if f"only the {s}" in g.messages[-1].content)
    )
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        note = (
            await p.ask("POST", "/api/tasks/soap-note", {"text": "Chest pain, BP 150/95, HR 88"}, as_="dr.lee")
        ).data
        assert [note[name] for name in ("subjective", "objective", "assessment", "plan")] == list(answers.values())
        assert note["status"] == "draft"
        assert [(flag["section"], flag["text"]) for flag in note["flags"]] == [("assessment", "Sepsis, lactate 4.1.")]
        assert "Sepsis, lactate 4.1. [not in source]" in note["response"]
        assert "BP 150/95, HR 88. [not" not in note["response"]


async def test_the_four_questions_of_a_note_begin_alike(tmp_path: Path) -> None:
    """So that the engine reads the encounter once: reading is most of the time on a CPU."""
    fake = FakeRuntime()
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        await p.ask("POST", "/api/tasks/soap-note", {"text": "Cough for two weeks."}, as_="dr.lee")
        beginnings = {(g.messages[0].content, g.messages[1].content.split("Task:")[0]) for g in fake.seen}
        assert len(fake.seen) == 4
        assert len(beginnings) == 1


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{nonsense", "BAD_JSON", "line 1"),
        (b"\xff\xfe", "BAD_JSON", "JSON"),
        (b"[]", "BAD_FIELD", "body"),
        (b'{"modelName": "fake:text"}', "BAD_FIELD", "prompt"),
        (b'{"modelName": "fake:text", "prompt": "   "}', "BAD_FIELD", "prompt"),
        (b'{"modelName": "fake:text", "prompt": 7}', "BAD_FIELD", "prompt"),
        (b'{"modelName": "m", "prompt": "a", "temprature": 1}', "UNKNOWN_FIELD", "temprature"),
        (b'{"modelName": "m", "prompt": "a", "options": {"heat": 1}}', "UNKNOWN_FIELD", "temperature"),
        (b'{"modelName": "m", "prompt": "a", "options": {"temperature": 2.5}}', "BAD_FIELD", "options.temperature"),
        (b'{"modelName": "m", "prompt": "a", "options": {"top_p": 0}}', "BAD_FIELD", "options.top_p"),
        (b'{"modelName": "m", "prompt": "a", "options": {"max_tokens": 0}}', "BAD_FIELD", "options.max_tokens"),
        (b'{"modelName": "m", "prompt": "a", "type": "audio"}', "BAD_FIELD", "type"),
        (b'{"modelName": "m", "prompt": "a", "type": "vision"}', "BAD_FIELD", "imageData"),
        (b'{"modelName": "m", "prompt": "a", "imageData": "aGk="}', "BAD_FIELD", "imageData"),
        (b'{"modelName": "m", "prompt": "a", "type": "vision", "imageData": "_no_"}', "BAD_BASE64", "base64"),
        (b'{"modelName": "m", "prompt": "a", "type": "vision", "imageData": "aGk="}', "NOT_AN_IMAGE", "PNG"),
        (b'{"modelName": "fake:text", "prompt": "a", "task": "poetry"}', "TASK_UNKNOWN", "soap-note"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_what_to_do(tmp_path: Path, body: bytes, code: str, words: str) -> None:
    fake = FakeRuntime()
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/local/process", data=body, as_="dr.lee")
        assert (answer.status, answer.code) == (404 if code == "TASK_UNKNOWN" else 400, code)
        assert words in answer.message
        assert answer.body["error"]["requestId"] == answer.headers["X-Request-Id"]
        assert fake.seen == []


async def test_an_unknown_model_is_named_with_its_nearest(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/local/process", {"modelName": "mistrall:7b", "prompt": "a"}, as_="dr.lee")
        assert (answer.status, answer.code) == (404, "MODEL_UNKNOWN")
        assert "mistral:7b" in answer.message


async def test_a_known_model_that_is_not_installed_comes_with_the_command(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "smollm2:135m", "prompt": "a"}
        answer = await p.ask("POST", "/api/local/process", body, as_="dr.lee")
        assert (answer.status, answer.code) == (409, "MODEL_NOT_INSTALLED")
        assert "bedside models pull smollm2:135m" in answer.message


async def test_a_picture_goes_to_a_vision_model_only(tmp_path: Path) -> None:
    fake = FakeRuntime()
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:vision", "prompt": "Describe.", "type": "vision", "imageData": png()}
        assert (await p.ask("POST", "/api/local/process", body, as_="dr.lee")).status == 200
        assert fake.seen[-1].messages[-1].images == (base64.b64decode(png()),)
        blind = await p.ask("POST", "/api/local/process", {**body, "modelName": "fake:text"}, as_="dr.lee")
        assert (blind.status, blind.code) == (400, "MODEL_HAS_NO_EYES")


async def test_a_prompt_over_the_context_is_refused_with_the_count(tmp_path: Path) -> None:
    fake = FakeRuntime(context_tokens=2000)
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "word " * 3000, "stream": True}
        answer = await p.ask("POST", "/api/local/process", body, as_="dr.lee")
        assert (answer.status, answer.code) == (413, "PROMPT_TOO_LONG")
        assert "30" in answer.message
        assert "2000" in answer.message


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with program(tmp_path, BEDSIDE_MAX_BODY_MB="1") as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/local/process", data=b" " * 1_100_000, as_="dr.lee")
        assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 100_000

        headers = {"Authorization": f"Bearer {p.tokens['dr.lee']}"}
        async with p.http.post("/api/local/process", data=chunks(), headers=headers) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_a_stranger_is_turned_away_before_a_long_body_is_read(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        unsigned = await p.ask("POST", "/api/local/process", data=b" " * 1_000_000)
        assert (unsigned.status, unsigned.code) == (401, "TOKEN_MISSING")
        long = await p.ask("POST", "/api/auth/login", data=b" " * 70_000)
        assert (long.status, long.code) == (413, "BODY_TOO_LARGE")


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        missing = await p.ask("GET", "/api/nothing")
        assert (missing.status, missing.code) == (404, "NOT_FOUND")
        wrong = await p.ask("DELETE", "/api/health")
        assert (wrong.status, wrong.code) == (405, "METHOD_NOT_ALLOWED")
        assert "GET" in wrong.message


async def test_a_slash_too_much_is_not_redirected(tmp_path: Path) -> None:
    """Behind a TLS proxy a redirect would have the body sent again in plain text."""
    async with program(tmp_path) as p:
        answer = await p.ask("POST", "/api/auth/login/", {"username": "a", "password": "b"})
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_an_engine_that_fails_before_the_first_token_gives_its_own_status(tmp_path: Path) -> None:
    async with program(tmp_path, [FakeRuntime(fail_after=0, error="ENGINE_GONE")]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "a", "stream": True}
        answer = await p.ask("POST", "/api/local/process", body, as_="dr.lee")
        assert (answer.status, answer.code) == (502, "ENGINE_GONE")


async def test_an_engine_that_fails_mid_stream_ends_it_with_an_error_event(tmp_path: Path) -> None:
    async with program(tmp_path, [FakeRuntime(fail_after=2, error="ENGINE_GONE")]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        events = await p.events(
            "/api/local/process", {"modelName": "fake:text", "prompt": "a b c", "stream": True}, "dr.lee"
        )
        assert [name for name, _ in events] == ["token", "token", "error"]
        assert events[-1][1]["code"] == "ENGINE_GONE"
        last = p.records()[-1]
        assert (last.kind, last.outcome, last.reason) == (Kind.OUTCOME, Outcome.FAILED, "ENGINE_GONE")


async def test_an_empty_answer_is_an_error_and_not_an_empty_note(tmp_path: Path) -> None:
    async with program(tmp_path, [FakeRuntime(script=lambda _: "")]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/tasks/soap-note", {"text": "Cough."}, as_="dr.lee")
        assert (answer.status, answer.code) == (502, "ANSWER_EMPTY")


async def test_an_unexpected_error_shows_nothing_of_itself(tmp_path: Path) -> None:
    def script(_: object) -> str:
        raise ValueError("MRN 4711 John Doe")

    async with program(tmp_path, [FakeRuntime(script=script)]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/tasks/soap-note", {"text": "Cough."}, as_="dr.lee")
        assert (answer.status, answer.code) == (500, "INTERNAL")
        assert "4711" not in str(answer.body)


async def test_a_client_that_leaves_frees_its_place_and_the_node(tmp_path: Path) -> None:
    fake = FakeRuntime(pace=0.05, script=lambda _: "word " * 1000)
    async with program(tmp_path, [fake]) as p:
        await p.user("dr.lee", Role.PROVIDER)
        for stream in (True, False):
            body = {"modelName": "fake:text", "prompt": "a", "stream": stream}
            asked = asyncio.create_task(p.ask("POST", "/api/local/process", body, as_="dr.lee"))
            await until(lambda: fake.running)
            asked.cancel()
            await until(lambda: not fake.running and not p.server.turnstile.state["running"])

        def outcomes() -> list[Outcome | None]:
            return [r.outcome for r in p.records() if r.kind is Kind.OUTCOME and r.task]

        await until(lambda: len(outcomes()) == 2)
        assert outcomes() == [Outcome.CLIENT_GONE, Outcome.CLIENT_GONE]


async def test_a_client_that_leaves_in_the_middle_of_its_own_body_is_no_error_of_ours(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(p.url.rpartition(":")[2]))
        head = f"POST /api/local/process HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {p.tokens['dr.lee']}\r\n"
        writer.write(head.encode() + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        assert (await p.ask("GET", "/api/health")).status == 200
        assert p.server.turnstile.state["running"] == 0


async def test_who_must_wait_is_told_the_place_and_who_is_too_many_is_sent_away(tmp_path: Path) -> None:
    fake = FakeRuntime(pace=0.2)
    async with program(tmp_path, [fake], OLLAMA_NUM_PARALLEL="1", OLLAMA_MAX_QUEUE="1") as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "a", "stream": True}
        first = asyncio.create_task(p.events("/api/local/process", body, "dr.lee"))
        await until(lambda: fake.running)
        second = asyncio.create_task(p.events("/api/local/process", body, "dr.lee"))
        await until(lambda: p.server.turnstile.state["waiting"])
        third = await p.ask("POST", "/api/local/process", body, as_="dr.lee")
        assert (third.status, third.code) == (429, "QUEUE_FULL")
        assert int(third.headers["Retry-After"]) > 0
        assert (await first)[0][0] == "token"
        waited = await second
        assert waited[0] == ("queued", {"position": 1})
        assert waited[-1][0] == "done"
        assert any(r.outcome is Outcome.REFUSED and r.reason == "QUEUE_FULL" for r in p.records())


async def test_a_request_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with program(tmp_path, [FakeRuntime(pace=5)], BEDSIDE_REQUEST_SECONDS="1", OLLAMA_NUM_PARALLEL="1") as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "a"}
        answers = await asyncio.gather(*(p.ask("POST", "/api/local/process", body, as_="dr.lee") for _ in range(2)))
        assert {(a.status, a.code) for a in answers} == {(504, "WAITED_TOO_LONG")}


async def test_models_can_be_switched_off(tmp_path: Path) -> None:
    async with program(tmp_path, LOCAL_MODELS_ENABLED="false") as p:
        await p.user("dr.lee", Role.PROVIDER)
        answer = await p.ask("POST", "/api/local/process", {"modelName": "fake:text", "prompt": "a"}, as_="dr.lee")
        assert (answer.status, answer.code) == (503, "LOCAL_MODELS_DISABLED")


async def test_a_gateway_that_shuts_down_takes_no_new_work(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        p.server.turnstile.close()
        answer = await p.ask("POST", "/api/local/process", {"modelName": "fake:text", "prompt": "a"}, as_="dr.lee")
        assert (answer.status, answer.code) == (503, "SHUTTING_DOWN")


async def test_the_patient_reference_goes_into_the_record_and_nowhere_else(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"modelName": "fake:text", "prompt": "a"}
        headers = {"X-Patient-Reference": "Patient/4711"}
        answer = await p.ask("POST", "/api/local/process", body, as_="dr.lee", headers=headers)
        assert "4711" not in str(answer.body)
        assert p.records()[-1].patient == "Patient/4711"
        bad = await p.ask("POST", "/api/local/process", body, as_="dr.lee", headers={"X-Patient-Reference": "John Doe"})
        assert (bad.status, bad.code) == (400, "BAD_FIELD")


async def test_status_and_models_have_what_existing_clients_read(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("front.desk", Role.STAFF)
        status = (await p.ask("GET", "/api/local/status", as_="front.desk")).data
        assert set(status) == {
            "ollamaRunning", "ollamaUrl", "installedModels", "availableModels", "activeModels", "nodes", "queue",
            "systemInfo", "hipaaMode",
        }  # fmt: skip
        assert set(status["systemInfo"]) == {
            "platform", "arch", "totalMemory", "freeMemory", "cpuCount", "hasGPU", "gpus",
        }  # fmt: skip
        assert [m["name"] for m in status["installedModels"]] == ["fake:text", "fake:vision"]
        assert status["hipaaMode"] is True
        models = (await p.ask("GET", "/api/local/models", as_="front.desk")).data
        assert {"mistral:7b", "qwen2.5-coder:0.5b", "fake:text"} <= {m["name"] for m in models}
        assert set(models[0]) == {
            "name", "displayName", "size", "type", "capabilities", "description", "installed", "quantization",
            "digest", "license",
        }  # fmt: skip


async def test_one_model_is_shown_with_its_context_and_how_to_install_it(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("front.desk", Role.STAFF)
        here = (await p.ask("GET", "/api/local/models/fake:text/info", as_="front.desk")).data
        assert (here["contextLength"], here["node"], here["installCommand"]) == (4096, "fake", None)
        absent = (await p.ask("GET", "/api/local/models/smollm2:135m/info", as_="front.desk")).data
        assert absent["installed"] is False
        assert absent["installCommand"].startswith("bedside models pull")
        unknown = await p.ask("GET", "/api/local/models/none/info", as_="front.desk")
        assert (unknown.status, unknown.code) == (404, "MODEL_UNKNOWN")


async def test_an_admin_sees_each_part_and_its_state(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("root.admin", Role.ADMIN)
        health = (await p.ask("GET", "/api/health/detailed", as_="root.admin")).data
        assert health["status"] == "ok"
        assert set(health["parts"]) == {"accounts", "audit", "queue", "node fake"}


@pytest.mark.parametrize("peer_trusted", [True, False])
async def test_the_address_of_a_caller_is_believed_from_a_trusted_proxy_only(
    tmp_path: Path, peer_trusted: bool
) -> None:
    trusted = "127.0.0.0/8, 10.0.0.0/8" if peer_trusted else ""
    async with program(tmp_path, BEDSIDE_TRUSTED_PROXIES=trusted) as p:
        await p.user("front.desk", Role.STAFF)
        headers = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7, 10.0.0.1"}
        await p.ask("GET", "/api/auth/profile", as_="front.desk", headers=headers)
        assert p.records()[-1].address == ("203.0.113.7" if peer_trusted else "127.0.0.1")


async def test_the_examples_in_the_description_are_good_requests(tmp_path: Path) -> None:
    async with program(
        tmp_path, [FakeRuntime(model_names=("qwen2.5-coder:0.5b",))], BEDSIDE_MODEL="qwen2.5-coder:0.5b"
    ) as p:
        await p.user("dr.lee", Role.PROVIDER)
        assert (await p.ask("POST", "/api/auth/login", dict(examples.LOGIN))).status == 200
        assert (await p.ask("POST", "/api/auth/refresh", dict(examples.REFRESH))).code == "REFRESH_INVALID"
        assert (await p.ask("POST", "/api/local/process", dict(examples.PROCESS), as_="dr.lee")).status == 200
        assert (await p.events("/api/tasks/soap-note", dict(examples.SOAP_NOTE), "dr.lee"))[-1][0] == "done"
        wrong = await p.ask("POST", "/api/auth/password", dict(examples.PASSWORD), as_="dr.lee")
        assert wrong.code == "SIGN_IN_FAILED"
        assert examples.LOGIN["password"] == PASSWORD


async def test_answers_are_never_kept_by_a_cache(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        answer = await p.ask("GET", "/api/health")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
