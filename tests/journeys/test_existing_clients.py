"""Calls as existing clients and the deployment guide send them, to the letter."""

import asyncio
import json
import shlex
import shutil
from pathlib import Path

import pytest
from tests.api.test_rest import png
from tests.journeys.started import bedside, node_beside, signed_in, started
from tests.ollama_like import Model

CURLS = [
    """curl -X POST http://localhost:3001/api/local/process \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "modelName": "mistral:7b",
    "prompt": "Generate a SOAP note for: 65-year-old male with chest pain, BP 150/95, HR 88",
    "type": "text"
  }'""",
    """curl -X POST http://localhost:3001/api/local/process \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "modelName": "codellama:7b",
    "prompt": "Extract ICD-10 codes for: Essential hypertension, Type 2 diabetes mellitus",
    "type": "text"
  }'""",
    """curl -X POST http://localhost:3001/api/local/process \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "modelName": "llava:7b",
    "prompt": "Analyze this chest X-ray and provide findings",
    "type": "vision",
    "imageData": "base64_encoded_image_data"
  }'""",
]
MODELS = (
    Model("mistral:7b"),
    Model("codellama:7b", digest="cd" * 32),
    Model("llava:7b", capabilities=("completion", "vision"), digest="ef" * 32),
)


async def printed(*command: str) -> bytes:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0]


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
async def test_the_guides_curl_lines_work_once_the_token_is_filled_in(tmp_path: Path) -> None:
    with (
        node_beside(answer=lambda _: "an answer", models=MODELS) as node,
        started(tmp_path, OLLAMA_URL=node.url) as gateway,
    ):
        async with signed_in(gateway) as http:
            token = http.headers["Authorization"].removeprefix("Bearer ")
            for line in CURLS:
                filled = line.replace("YOUR_TOKEN", token).replace("http://localhost:3001", gateway.url)
                filled = filled.replace("base64_encoded_image_data", png())
                answer = json.loads(await printed(*shlex.split(filled), "-sS"))
                assert answer["success"] is True, answer
                assert answer["data"]["response"] == "an answer"
            bearer = f"Authorization: Bearer {token}"
            status = await printed("curl", "-sS", f"{gateway.url}/api/local/status", "-H", bearer)
        assert json.loads(status)["data"]["ollamaRunning"] is True


@pytest.mark.anyio
async def test_a_node_that_goes_away_is_said_and_what_is_left_goes_on(tmp_path: Path) -> None:
    with started(tmp_path, OLLAMA_URL="http://127.0.0.1:9", BEDSIDE_FAKE="true") as gateway:
        async with signed_in(gateway) as http:
            async with http.get("/api/local/status") as answer:
                status = (await answer.json())["data"]
            states = {node["name"]: node["state"] for node in status["nodes"]}
            assert states["ollama"] == "unreachable"
            assert status["ollamaRunning"] is False
            async with http.post("/api/local/process", json={"modelName": "fake:text", "prompt": "a"}) as answer:
                assert answer.status == 200


@pytest.mark.anyio
@pytest.mark.parametrize("signals", [1, 2])
async def test_work_that_is_cut_off_by_a_shutdown_is_told_so_and_recorded(tmp_path: Path, signals: int) -> None:
    """One signal and a short drain, or a second signal from somebody who does not want to wait."""
    drain = "1" if signals == 1 else "600"
    with node_beside(pace=0.2, answer=lambda _: "word " * 500, models=MODELS) as node:
        with started(tmp_path, OLLAMA_URL=node.url, BEDSIDE_DRAIN_SECONDS=drain) as gateway:
            async with signed_in(gateway) as http:
                body = {"modelName": "mistral:7b", "prompt": "a", "stream": True}
                async with http.post("/api/local/process", json=body) as answer:
                    await answer.content.readline()
                    for _ in range(signals):
                        gateway.process.terminate()
                        await asyncio.sleep(0.5)
                    rest = (await answer.content.read()).decode()
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0
    verdict = json.loads(bedside(gateway.env, "audit", "verify", "--json").stdout)
    assert (verdict["whole"], verdict["openIntents"]) == (True, [])
    log = (tmp_path / "data" / "audit" / "log.jsonl").read_text()
    assert '"reason":"INTERRUPTED"' in log
    if signals == 1:
        assert "SHUTTING_DOWN" in rest
