"""One engine's child process: what it is told, what it hides, how it dies and is brought back."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.starter import starter

from bedside.core.chat import NodeState
from bedside.core.errors import BedsideError
from bedside.runtimes.engine_process import (
    EngineConfig,
    EngineProcess,
    Link,
    Patience,
    after_death,
    child_environment,
    exit_words,
    gpu_devices,
    without_prompts,
)

pytestmark = pytest.mark.anyio
needs_model = pytest.mark.model
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
QUICK = Patience(delays=(0.01,), deaths=3, window=600, load=120)
MARKER = "Zyx-Patient-Marker"


def config(path: Path, gpu: str = "false") -> EngineConfig:
    return EngineConfig(str(path), context=512, parallel=2, threads=2, cacheMib=16, gpu=gpu)


@asynccontextmanager
async def engine(path: Path, patience: Patience = QUICK, gpu: str = "false") -> AsyncIterator[EngineProcess]:
    process = EngineProcess("tiny", config(path, gpu), patience)
    process.start()
    try:
        yield process
    finally:
        await process.stop()


async def failure(process: EngineProcess) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        await process.ready()
    return caught.value


async def post(link: Link, body: bytes, key: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {link.key if key is None else key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{link.url}/v1/chat/completions", data=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.fixture
def garbage(tmp_path: Path) -> Path:
    path = tmp_path / "garbage.gguf"
    path.write_bytes(b"garbage" * 100)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A model file that never finishes loading: a pipe that nobody writes to."""
    path = tmp_path / "endless.gguf"
    os.mkfifo(path)
    return path


@needs_model
async def test_the_key_is_needed_and_is_nowhere_that_others_can_look() -> None:
    async with engine(starter()) as process:
        link = await process.ready()
        assert [await post(link, b"{}", key) for key in ("", "wrong")] == [401, 401]
        child = psutil.Process(link.pid)
        assert link.key not in repr((child.cmdline(), child.environ(), link))
        assert link.url.startswith("http://127.0.0.1:")


@needs_model
async def test_what_the_engine_says_of_a_broken_request_does_not_quote_it() -> None:
    """Its parser quotes what it could not read; that may be a prompt."""
    async with engine(starter()) as process:
        link = await process.ready()
        broken = f'{{"messages":[{{"role":"user","content":"{MARKER} \\ud800"}}]}}'
        assert await post(link, broken.encode()) >= 400
        assert await post(link, b'{"messages":[{"role":"user","content":"' + MARKER.encode()) >= 400
        await process.stop()
        assert not any(MARKER in line for line in process.log)


@needs_model
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
async def test_a_killed_child_is_replaced_by_one_with_a_new_key() -> None:
    async with engine(starter()) as process:
        first = await process.ready()
        os.kill(first.pid, signal.SIGKILL)
        await first.gone.wait()
        second = await process.ready()
        assert process.reason == "it ended with signal SIGKILL"
        assert (process.restarts, process.state) == (1, NodeState.READY)
        assert second.pid != first.pid
        assert second.key != first.key


@needs_model
async def test_stopping_ends_the_child_and_may_be_done_twice() -> None:
    async with engine(starter()) as process:
        link = await process.ready()
        await asyncio.gather(process.stop(), process.stop())
        assert link.gone.is_set()
        assert not psutil.pid_exists(link.pid)
        assert process.state is NodeState.OFF
        assert (await failure(process)).code == "NODE_UNREACHABLE"


async def test_an_engine_that_keeps_dying_is_given_up_with_reason_and_log(garbage: Path) -> None:
    async with engine(garbage) as process:
        error = await failure(process)
        assert error.code == "NODE_FAILED"
        assert "exit code 1" in error.cause
        assert "invalid magic characters" in error.cause
        assert (process.state, process.restarts) == (NodeState.FAILED, 2)
        assert any("failed to load model" in line for line in process.log)
        await process.stop()
        assert process.state is NodeState.FAILED


@needs_fifo
async def test_an_engine_that_does_not_get_ready_in_time_is_ended_and_given_up(endless: Path) -> None:
    async with engine(endless, Patience(delays=(0.01,), deaths=1, load=0.5, grace=0.1)) as process:
        assert (await failure(process)).code in ("NODE_UNREACHABLE", "NODE_FAILED")
        while process.state is not NodeState.FAILED:
            await asyncio.sleep(0.01)
        assert "not ready after 0.5 seconds" in str(process.reason)


async def test_a_gpu_that_is_demanded_but_not_there_fails_at_once_with_the_reason(garbage: Path) -> None:
    if gpu_devices():
        pytest.skip("this machine has a GPU")
    async with engine(garbage, gpu="true") as process:
        error = await failure(process)
        assert "GPU_ACCELERATION=true" in error.cause
        assert process.restarts == 0


async def test_a_program_that_can_not_be_started_is_given_up_too(garbage: Path, tmp_path: Path) -> None:
    process = EngineProcess("tiny", config(garbage), QUICK, command=(str(tmp_path / "no-such-program"),))
    process.start()
    assert "could not be started" in (await failure(process)).cause


PARENT = """
import asyncio, sys
from pathlib import Path
from bedside.runtimes.engine_process import EngineConfig, EngineProcess
async def main():
    process = EngineProcess("tiny", EngineConfig(sys.argv[1], 512, 1, 1, 0, "false"))
    process.start()
    if sys.argv[2] == "ready":
        await process.ready()
    print("go", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def orphans(path: Path, moment: str) -> list[psutil.Process]:
    """Starts a parent with one engine, kills the parent, and gives back the engines that outlive it by far."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path), moment], stdout=subprocess.PIPE)
    assert parent.stdout
    parent.stdout.readline()
    children = psutil.Process(parent.pid).children()
    while moment == "loading" and not any(opens_model(child) for child in children):
        children = psutil.Process(parent.pid).children()
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(children) == 1
    _, alive = psutil.wait_procs(children, 20)
    return alive


def opens_model(child: psutil.Process) -> bool:
    """Whether it has come as far as llama.cpp: the library is mapped."""
    try:
        return any("xllamacpp" in region.path for region in child.memory_maps())
    except psutil.Error:
        return False


@needs_model
def test_a_killed_gateway_leaves_no_engine_behind() -> None:
    assert orphans(starter(), "ready") == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the engine ends when it has loaded")
def test_a_gateway_killed_while_a_model_loads_leaves_no_engine_behind(endless: Path) -> None:
    assert orphans(endless, "loading") == []


def test_delays_grow_and_old_deaths_are_forgiven() -> None:
    patience = Patience(delays=(1, 2, 4), deaths=5, window=100)
    deaths: list[float] = []
    delays = []
    for now in (0, 10, 20, 30, 150, 160):
        deaths, delay = after_death(deaths, now, patience)
        delays.append(delay)
    assert delays == [1, 2, 4, 4, 1, 2]
    assert after_death([0, 1, 2, 3], 4, patience)[1] is None


def test_the_child_gets_no_secrets_of_the_gateway() -> None:
    given = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", "BEDSIDE_KEY": "s", "DATABASE_URL": "s"}
    assert set(child_environment(given)) == {"PATH", "CUDA_VISIBLE_DEVICES", "LC_ALL"}


def test_exit_codes_read_as_words() -> None:
    assert [exit_words(1), exit_words(-9), exit_words(-63)] == ["exit code 1", "signal SIGKILL", "signal 63"]


def test_log_lines_are_bounded_and_quotations_cut_off() -> None:
    assert without_prompts(f"srv: got exception: {MARKER}") == "srv: got exception"
    assert len(without_prompts("x" * 10_000)) == 300


def test_asking_for_gpus_answers_on_any_machine() -> None:
    assert all({"name", "memoryTotal", "memoryFree"} <= set(device) for device in gpu_devices())
