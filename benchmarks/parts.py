"""The measurements. Each runs both sides in turn, so that what else happens on the machine hits both."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.figures import added, quantile, spread
from benchmarks.load import Job
from benchmarks.processes import ROOT, Gateway, Load, Server

from bedside.clinical.registry import find_task
from bedside.core.chat import Generation, Options
from bedside.core.request import TaskRequest
from bedside.models.store import ModelStore
from bedside.operations.configuration import load_settings
from bedside.operations.hardware import engine_threads, free_memory
from bedside.runtimes import embedded_words, ollama_words
from bedside.runtimes.embedded import EmbeddedConfig
from bedside.runtimes.engine_process import EngineProcess

PROMPT = "65-year-old male with chest pain, BP 150/95, HR 88"
STUB_MODEL, FAKE_MODEL, REAL_MODEL = "tiny:latest", "fake:text", "smollm2:135m"
CONTEXT = 8192
CONNECTIONS = (1, 16, 64)
NO_OPTIONS = Options()


def process_body(model: str, stream: bool, **options: float) -> str:
    return json.dumps({"modelName": model, "prompt": PROMPT, "stream": stream, "options": options})


def generation(model: str, options: Options = NO_OPTIONS) -> Generation:
    """What the gateway makes of ``process_body``, so that an engine asked directly gets the same words."""
    step = find_task("ask").steps(TaskRequest("ask", PROMPT, model, options=options))[0]
    return Generation(model, step.messages, step.options)


def direct_job(engine: str) -> Job:
    body = json.dumps(ollama_words.chat_body(STUB_MODEL, generation(STUB_MODEL), CONTEXT))
    return Job("open", f"{engine}/api/chat", body=body, mark='"content": "', end='"done": true')


def process_job(gateway: Gateway, model: str, stream: bool) -> Job:
    mark, end = ("event: token", "event: done") if stream else ("", '"finishReason":')
    url = f"{gateway.url}/api/local/process"
    return Job("open", url, headers=gateway.headers, body=process_body(model, stream), mark=mark, end=end)


def overhead(load: Load, engine: str, gateway: Gateway, rate: float, turns: int, seconds: float) -> dict[str, Any]:
    """The same engine asked directly and through the gateway, in an open loop, ``turns`` turns each."""
    jobs = {"direct": direct_job(engine), "gateway": process_job(gateway, STUB_MODEL, stream=True)}
    jobs = {side: replace(job, rate=rate, seconds=seconds) for side, job in jobs.items()}
    for job in jobs.values():
        load.run(replace(job, seconds=1))
    found = _taken(jobs, [(side, load.run(jobs[side])) for _ in range(turns) for side in jobs])
    return {
        "first_token_ms": added(found["gateway"]["first"], found["direct"]["first"]),
        "request_ms": added(found["gateway"]["total"], found["direct"]["total"]),
        "started_late_ms": {side: spread(found[side]["late"]) for side in jobs},
        "errors": {side: found[side]["errors"] for side in jobs},
    }


def _taken(sides: Mapping[str, object], results: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    taken: dict[str, dict[str, Any]] = {side: {"first": [], "total": [], "late": [], "errors": {}} for side in sides}
    for side, result in results:
        for name in ("first", "total", "late"):
            taken[side][name] += result[name]
        for name, count in result["errors"].items():
            taken[side]["errors"][name] = taken[side]["errors"].get(name, 0) + count
    return taken


def rates(load: Load, bare: Server, gateway: Gateway, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests a second in a closed loop: the best of ``rounds``, all sides after each other in every round."""
    get = Job("closed", "", "GET", headers=gateway.headers, end='"success":true')
    jobs = {
        "pass-through": replace(direct_job(bare.url), kind="closed", mark=""),
        "process, stub engine": replace(process_job(gateway, STUB_MODEL, stream=False), kind="closed"),
        "process, fake in the gateway": replace(process_job(gateway, FAKE_MODEL, stream=False), kind="closed"),
        "GET /api/local/status": replace(get, url=f"{gateway.url}/api/local/status"),
        "GET /api/auth/profile": replace(get, url=f"{gateway.url}/api/auth/profile"),
    }
    for job in jobs.values():
        load.run(replace(job, connections=16, count=200))
    found: dict[str, dict[str, Any]] = {name: {} for name in jobs}
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for name, job in jobs.items():
                server = bare if name == "pass-through" else gateway
                spent = server.cpu()
                result = load.run(replace(job, connections=connections, seconds=seconds))
                _keep_best(found[name], connections, result, server.cpu() - spent)
    return found


def _keep_best(cells: dict[str, Any], connections: int, result: Mapping[str, Any], spent: float) -> None:
    cell = {
        "per_second": len(result["total"]) / result["seconds"],
        "median_ms": quantile(result["total"], 0.5),
        "p99_ms": quantile(result["total"], 0.99),
        "cpu_ms": spent * 1000 / max(len(result["total"]), 1),
        "errors": result["errors"],
    }
    before = cells.get(str(connections))
    if before is None or cell["per_second"] > before["per_second"] or cell["errors"]:
        cells[str(connections)] = cell


def real_engine(load: Load, gateway: Gateway, times: int) -> dict[str, Any] | None:
    """The embedded engine with a small real model, one request after the other; ``None`` without the model."""
    models = ModelStore(load_settings().path("BEDSIDE_MODELS_DIR")).installed()
    path = next((model.path for model in models if model.info().name == REAL_MODEL), None)
    return asyncio.run(_real_engine(load, gateway, times, path)) if path else None


async def _real_engine(load: Load, gateway: Gateway, times: int, path: Path) -> dict[str, Any]:
    """Two engines with the same file and settings: the gateway's own, which only the gateway can ask, and this."""
    config = EmbeddedConfig(engine_threads(), free_memory, CONTEXT, parallel=64)
    engine = EngineProcess(REAL_MODEL, config.engine(path))
    engine.start()
    try:
        link = await engine.ready()
        options = Options(temperature=0.0, max_tokens=32, seed=1)
        body = json.dumps(embedded_words.chat_body(generation(REAL_MODEL, options), 32))
        url, key = link.url + embedded_words.CHAT, {"Authorization": f"Bearer {link.key}"}
        through = process_body(REAL_MODEL, True, temperature=0.0, max_tokens=32, seed=1)
        jobs = {
            "direct": Job("closed", url, headers=key, body=body, mark='"delta":{"content":"', end="data: [DONE]"),
            "gateway": replace(process_job(gateway, REAL_MODEL, stream=True), kind="closed", body=through),
        }
        jobs = {side: replace(job, count=1) for side, job in jobs.items()}
        for job in jobs.values():
            await asyncio.to_thread(load.run, job)
        results = [(side, await asyncio.to_thread(load.run, jobs[side])) for _ in range(times) for side in jobs]
    finally:
        await engine.stop()
    found = _taken(jobs, results)
    return {
        "model": REAL_MODEL,
        "first_token_ms": added(found["gateway"]["first"], found["direct"]["first"]),
        "request_ms": added(found["gateway"]["total"], found["direct"]["total"]),
        "errors": {side: found[side]["errors"] for side in jobs},
    }


def memory(load: Load, gateway: Gateway, requests: int) -> dict[str, Any]:
    """The gateway's own process, before any sign-in and after ``requests`` requests; no model in it."""
    job = replace(process_job(gateway, STUB_MODEL, stream=False), kind="closed", connections=16)
    result = load.run(replace(job, count=requests))
    return {
        "requests": len(result["total"]),
        "errors": result["errors"],
        "at_start_mb": dict(gateway.at_start),
        "after_mb": gateway.memory(),
    }


def audit(folder: Path, seconds: float) -> dict[str, Any]:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.durable", str(folder), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))
