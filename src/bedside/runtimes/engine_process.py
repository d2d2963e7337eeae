"""One engine in a child process: started, watched, restarted with growing delay, given up with a reason.

One task per engine owns its state; everybody else asks ``ready()``.
"""

import asyncio
import contextlib
import functools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bedside.core.chat import NodeState
from bedside.core.clock import Clock, SystemClock
from bedside.core.errors import BedsideError
from bedside.runtimes.openmp import with_openmp

# -P: the folder that the gateway was started in is no place to import from.
COMMAND = (sys.executable, "-P", "-m", "bedside.runtimes.engine_child")
LOG_LINES, LOG_WIDTH = 40, 300
ERROR_LINE = re.compile(r"^[\d.]+ E (.*)")  # llama.cpp: time since start, level, text
# What a native library and Python need. Everything else, secrets first of all, stays in the gateway.
PASSED_ON = {
    *("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "WINDIR", "TEMP", "TMP", "TMPDIR", "LANG", "LANGUAGE"),
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"),
}
PASSED_ON_PREFIXES = ("LC_", "LD_LIBRARY_", "DYLD_", "CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "VK_", "OMP_")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What a child is told, beside its key. ``context`` in tokens for all slots together, ``cacheMib`` in MiB.

    ``gpu`` is ``auto``, ``true`` (fail without one) or ``false``. The names are those of the JSON line.
    """

    path: str
    context: int
    parallel: int
    threads: int
    cacheMib: int  # noqa: N815 - the word on the wire
    gpu: str = "auto"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an engine is waited for and how often it is tried again. All times in seconds.

    The n-th death within ``window`` is followed by the n-th of ``delays`` (the last one repeats);
    ``deaths`` of them within ``window`` and the engine is marked failed.
    """

    delays: Sequence[float] = (0.5, 1, 2, 4, 8, 16, 30)
    deaths: int = 5
    window: float = 600
    load: float = 300
    grace: float = 2


@dataclass(frozen=True, slots=True)
class Link:
    """The way to one running child: good until ``gone`` is set. Each run has a new address and key."""

    url: str
    key: str = field(repr=False)
    pid: int
    gone: asyncio.Event = field(compare=False, repr=False, default_factory=asyncio.Event)


def after_death(deaths: Sequence[float], now: float, patience: Patience) -> tuple[list[float], float | None]:
    """The deaths that still count, this one included, and the delay before the next try; ``None``: give up."""
    counted = [*(then for then in deaths if now - then < patience.window), now]
    if len(counted) >= patience.deaths:
        return counted, None
    return counted, patience.delays[min(len(counted), len(patience.delays)) - 1]


class EngineProcess:
    """The supervisor of one engine. ``name`` is the model's, for errors."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        patience: Patience = Patience(),
        clock: Clock | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.name = name
        self.state = NodeState.OFF
        self.reason: str | None = None
        self.restarts = 0
        self.link: Link | None = None
        self._config, self._patience, self._clock = config, patience, clock or SystemClock()
        self._command = command
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._first_error = ""
        self._changed = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that the engine wrote, oldest first; never a caller's text."""
        return tuple(self._log)

    def start(self) -> None:
        """Begins to start and watch the engine; ``ready`` tells when it is there. Once only."""
        self._become(NodeState.STARTING)
        self._owner = asyncio.create_task(self._own(), name=f"engine {self.name}")

    async def ready(self) -> Link:
        """Waits until the engine takes requests.

        Raises ``NODE_FAILED`` when it was given up, ``NODE_UNREACHABLE`` when it is stopped or does not
        get ready within the loading time.
        """
        try:
            async with asyncio.timeout(self._patience.load):
                while self.link is None:
                    if self.state is NodeState.FAILED:
                        raise BedsideError("NODE_FAILED", model=self.name, why=self.reason)
                    if self.state is NodeState.OFF:
                        raise BedsideError("NODE_UNREACHABLE", node=self.name)
                    await self._changed.wait()
        except TimeoutError:
            raise BedsideError("NODE_UNREACHABLE", node=self.name) from None
        return self.link

    async def stop(self) -> None:
        """Ends the engine and waits until it is gone; safe to call twice. A failed one stays failed."""
        if self._owner is None:
            return
        if not self._stopping:  # cancelling again would break off the child's own ending
            self._stopping = True
            self._owner.cancel()
        await asyncio.wait({self._owner})

    # From here on: the owner task only.

    async def _own(self) -> None:
        deaths: list[float] = []
        try:
            while True:
                self.reason, hopeless = await self._live()
                deaths, delay = after_death(deaths, self._clock.tick() / 1e9, self._patience)
                if hopeless or delay is None:
                    self._become(NodeState.FAILED)
                    return
                self._become(NodeState.RESTARTING)
                await asyncio.sleep(delay)
                self.restarts += 1
        finally:
            if self.state is not NodeState.FAILED:
                self._become(NodeState.OFF)

    async def _live(self) -> tuple[str, bool]:
        """One life of a child: why it ended, and whether another try is hopeless."""
        self._first_error = ""  # of several error lines, llama.cpp's first names the cause
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=with_openmp(child_environment(os.environ)),
                start_new_session=True,
            )
        except OSError as why:
            return f"it could not be started ({why.strerror})", False
        log = asyncio.create_task(self._keep_log(child))
        gone = asyncio.Event()
        try:
            refusal = await self._open(child, gone)
            code = await child.wait()
            await log  # its last lines are the reason
        finally:
            self.link = None
            gone.set()
            await self._end(child)
            log.cancel()
        return refusal or self._why(code), refusal is not None

    async def _open(self, child: Process, gone: asyncio.Event) -> str | None:
        """Hands over the configuration and waits for the address. Returns the child's refusal, if it sent one."""
        key = secrets.token_urlsafe(32)
        said: dict[str, str] = {}
        try:
            async with asyncio.timeout(self._patience.load):
                assert child.stdin  # noqa: S101 - a pipe
                assert child.stdout  # noqa: S101 - a pipe
                child.stdin.write(json.dumps(asdict(self._config) | {"key": key}).encode() + b"\n")
                await child.stdin.drain()
                said = json.loads(await child.stdout.readline())
        except TimeoutError:
            self._first_error = f"not ready after {self._patience.load:g} seconds"
        except (OSError, ValueError):
            pass  # it died early and broke a pipe: its exit code and log say more than that
        if "address" in said:
            self.link = Link(said["address"], key, child.pid, gone)
            self._become(NodeState.READY)
        else:
            await self._end(child)
        return said.get("error")

    async def _end(self, child: Process) -> None:
        """Asks (end of stdin), then tells (terminate), then makes it (kill)."""
        assert child.stdin  # noqa: S101 - a pipe
        for step in (child.stdin.close, child.terminate, child.kill):
            if child.returncode is None:
                with contextlib.suppress(TimeoutError, ProcessLookupError):
                    step()
                    async with asyncio.timeout(self._patience.grace):
                        await child.wait()

    async def _keep_log(self, child: Process) -> None:
        assert child.stderr  # noqa: S101 - a pipe
        while True:
            with contextlib.suppress(ValueError):  # a line over the reader's limit is dropped
                line = await child.stderr.readline()
                if not line:
                    return
                self._note(without_prompts(line.decode(errors="replace").strip()))

    def _note(self, line: str) -> None:
        self._log.append(line)
        if not self._first_error and (error := ERROR_LINE.match(line)):
            self._first_error = error[1]

    def _why(self, code: int) -> str:
        first = f" ({self._first_error})" if self._first_error else ""
        return f"it ended with {exit_words(code)}{first}"

    def _become(self, state: NodeState) -> None:
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def exit_words(code: int) -> str:
    """An exit code as words: ``exit code 1``, or the name of the signal (``-9`` is SIGKILL)."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def without_prompts(line: str) -> str:
    """A log line, bounded. What llama.cpp quotes after an exception may be a piece of a request: cut off."""
    head, quoting, _ = line.partition("got exception")
    return (head + quoting)[:LOG_WIDTH]


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that an engine gets."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper() in PASSED_ON or name.upper().startswith(PASSED_ON_PREFIXES)
    }


@functools.cache
def gpu_devices() -> tuple[dict[str, object], ...]:
    """The GPUs that llama.cpp can use: name, description, memoryTotal and memoryFree in bytes.

    Asks a child once and remembers; empty if it can't tell. Blocks for up to a minute: not for the event loop.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [*COMMAND, "--devices"],
            stdin=DEVNULL,
            capture_output=True,
            check=True,
            timeout=60,
            env=with_openmp(child_environment(os.environ)),
        )
        return tuple(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
