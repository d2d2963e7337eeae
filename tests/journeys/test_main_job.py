"""The whole program, a real small model, and what must hold while it works."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from tests.journeys.started import Gateway, bedside, signed_in, started
from tests.program import parse_events, until
from tests.starter import starter

pytestmark = [pytest.mark.anyio, pytest.mark.model]
ENCOUNTER = "65-year-old male with chest pain, BP 150/95, HR 88"


async def note(http: aiohttp.ClientSession, **more: object) -> tuple[int, str]:
    async with http.post("/api/tasks/soap-note", json={"text": ENCOUNTER, "stream": True, **more}) as answer:
        return answer.status, await answer.text()


def engines(gateway: Gateway) -> list[psutil.Process]:
    """The engine processes of a gateway."""
    children = psutil.Process(gateway.process.pid).children(recursive=True)
    return [child for child in children if "engine_child" in " ".join(child.cmdline())]


async def test_a_provider_gets_a_soap_note_from_a_real_model_and_the_log_is_whole(tmp_path: Path) -> None:
    starter("qwen2.5-coder:0.5b")
    with started(tmp_path) as gateway:
        async with signed_in(gateway) as http:
            status, text = await note(http)
        assert status == 200
        events = parse_events(text)
        assert [name for name, _ in events][-1] == "done"
        done: dict[str, Any] = events[-1][1]
        assert all(done[section].strip() for section in ("subjective", "objective", "assessment", "plan"))
        assert done["digest"] == "sha256:1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
        assert done["timings"]["cachedTokens"] > 0, "the four questions share the reading of the encounter"
        assert done["timings"]["firstTokenMs"] > 0
        assert gateway.stop() == 0
    verdict = bedside(gateway.env, "audit", "verify", "--json")
    assert verdict.returncode == 0
    found = json.loads(verdict.stdout)
    assert (found["whole"], found["openIntents"]) == (True, [])


async def test_a_model_process_that_is_killed_takes_down_its_request_only(tmp_path: Path) -> None:
    starter("smollm2:135m")
    with started(tmp_path, BEDSIDE_MODEL="smollm2:135m", BEDSIDE_CONTEXT="2048") as gateway:
        async with signed_in(gateway) as http:
            body = {"modelName": "smollm2:135m", "prompt": "Tell a long story.", "options": {"max_tokens": 1000}}
            async with http.post("/api/local/process", json={**body, "stream": True}) as answer:
                first = await answer.content.readline()
                (engine,) = engines(gateway)
                engine.kill()
                events = parse_events((first + await answer.content.read()).decode())
            assert (events[-1][0], events[-1][1]["code"]) == ("error", "ENGINE_GONE")
            async with http.get("/api/health") as answer:
                assert answer.status == 200
            async with http.post("/api/local/process", json={**body, "options": {"max_tokens": 8}}) as answer:
                assert (await answer.json())["data"]["tokens"] == 8
        assert gateway.stop() == 0


async def test_a_gateway_told_to_stop_finishes_what_it_has_begun(tmp_path: Path) -> None:
    starter("smollm2:135m")
    with started(tmp_path, BEDSIDE_MODEL="smollm2:135m", BEDSIDE_CONTEXT="2048") as gateway:
        async with signed_in(gateway) as http:
            body = {"modelName": "smollm2:135m", "prompt": ENCOUNTER, "options": {"max_tokens": 60}, "stream": True}
            async with http.post("/api/local/process", json=body) as answer:
                first = await answer.content.readline()
                gateway.process.send_signal(signal.SIGTERM)
                events = parse_events((first + await answer.content.read()).decode())
            assert events[-1][0] == "done"
        assert await asyncio.to_thread(gateway.process.wait, 60) == 0
    assert bedside(gateway.env, "audit", "verify").returncode == 0


async def test_a_killed_gateway_leaves_no_engine_behind_and_says_what_was_interrupted(tmp_path: Path) -> None:
    starter("smollm2:135m")
    with started(tmp_path, BEDSIDE_MODEL="smollm2:135m", BEDSIDE_CONTEXT="2048") as gateway:
        async with signed_in(gateway) as http:
            async with http.post("/api/tasks/soap-note", json={"text": ENCOUNTER, "stream": True}) as answer:
                await answer.content.readline()
                (engine,) = engines(gateway)
                gateway.process.kill()
                gateway.process.wait()
        await until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
    verdict = json.loads(bedside(gateway.env, "audit", "verify", "--json").stdout)
    assert verdict["whole"] is True
    assert [intent.partition(": ")[2] for intent in verdict["openIntents"]] == ["clinical:task:run"]


async def test_a_prompt_over_the_real_context_is_refused_with_the_models_own_count(tmp_path: Path) -> None:
    starter("smollm2:135m")
    with started(tmp_path, BEDSIDE_MODEL="smollm2:135m", BEDSIDE_CONTEXT="1024") as gateway:
        async with signed_in(gateway) as http:
            async with http.post("/api/tasks/soap-note", json={"text": "chest pain " * 2000}) as answer:
                body = await answer.json()
        assert (answer.status, body["error"]["code"]) == (413, "PROMPT_TOO_LONG")
        counted, limit = (int(number) for number in re.findall(r"\b\d{3,}\b", body["error"]["message"])[:2])
        assert counted > 4000
        assert limit <= 1024
