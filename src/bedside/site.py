"""What the running program shows of itself: nodes, models, queue, machine. Joins parts, so it is wiring."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence

from bedside import __version__
from bedside.api import schemas as s
from bedside.api.site import KnownModel, model_out
from bedside.core.chat import Health, NodeState
from bedside.core.errors import BedsideError
from bedside.core.settings import Settings
from bedside.gateway.turnstile import Turnstile
from bedside.models.catalogue import Catalogue, install_command, unknown
from bedside.operations.hardware import system_info
from bedside.runtimes.engine_process import gpu_devices
from bedside.runtimes.pool import Pool

_GOOD = (NodeState.READY, NodeState.OFF)


def missing_model(catalogue: Catalogue, name: str, on_nodes: Sequence[str]) -> BedsideError:
    """The error for a model that no node has: known by name, then how to install it; else near names."""
    entry = catalogue.find(name)
    if entry is None:
        return unknown(name, [*catalogue.entries, *on_nodes])
    return BedsideError("MODEL_NOT_INSTALLED", name=name, command=install_command(entry))


class RunningSite:
    """Implements ``api.site.Site`` over the pool, the catalogue and the queue."""

    def __init__(self, settings: Settings, pool: Pool, catalogue: Catalogue, turnstile: Turnstile) -> None:
        self._settings, self._pool, self._catalogue, self._turnstile = settings, pool, catalogue, turnstile
        self._began = time.monotonic()
        self._gpus: Sequence[Mapping[str, object]] | None = None

    def health(self) -> s.Health:
        return s.Health(version=__version__, uptime=self._uptime)

    async def detailed_health(self) -> s.DetailedHealth:
        """Whoever reads this got past the lock and the log, so those two work."""
        parts = {"accounts": s.Part(state="ready"), "audit": s.Part(state="ready")}
        parts["queue"] = s.Part(state="ready", details=dict(self._turnstile.state))
        nodes = await self._pool.health()
        parts |= {f"node {name}": _part(health) for name, health in nodes.items()}
        good = any(health.state in _GOOD for health in nodes.values())
        return s.DetailedHealth(
            status="ok" if good else "degraded", version=__version__, uptime=self._uptime, parts=parts
        )

    async def status(self) -> s.Status:
        if self._gpus is None:  # asks a child process, once
            self._gpus = await asyncio.to_thread(gpu_devices)
        loaded, health = await asyncio.gather(self._pool.loaded(), self._pool.health())
        known = self._known({model for _, model in loaded})
        ollama = health.get("ollama")
        return s.Status(
            ollama_running=ollama is not None and ollama.state is NodeState.READY,
            ollama_url=self._settings.resolved["OLLAMA_URL"].shown,
            installed_models=[model_out(model) for model in known if model.info.installed],
            available_models=[model_out(model) for model in known],
            active_models=[s.ActiveModel(name=model, node=node) for node, model in loaded],
            nodes=_nodes(health, known),
            queue=s.QueueOut(**self._turnstile.state),
            system_info=_system(self._gpus),
            hipaa_mode=self._settings.flag("HIPAA_MODE"),
        )

    async def models(self) -> Sequence[KnownModel]:
        """Installed ones first, then those of the catalogue that can be installed."""
        return self._known({model for _, model in await self._pool.loaded()})

    def _known(self, loaded: Collection[str]) -> Sequence[KnownModel]:
        here = [KnownModel(p.info, p.runtime.name, p.info.name in loaded) for p in self._pool.placed()]
        names = {known.info.name for known in here}
        absent = [entry for name, entry in self._catalogue.entries.items() if name not in names]
        return [*here, *(KnownModel(entry.info(), install_command=install_command(entry)) for entry in absent)]

    async def model(self, name: str) -> KnownModel:
        for known in await self.models():
            if known.info.name in (name, f"{name}:latest"):
                return known
        raise unknown(name, [known.info.name for known in await self.models()])

    @property
    def _uptime(self) -> float:
        return round(time.monotonic() - self._began, 3)


def _part(health: Health) -> s.Part:
    return s.Part(state=health.state.value, reason=health.reason, details=health.details)


def _nodes(health: Mapping[str, Health], known: Sequence[KnownModel]) -> list[s.NodeOut]:
    return [
        s.NodeOut(
            name=name,
            state=state.state.value,
            reason=state.reason,
            models=[model.info.name for model in known if model.node == name],
        )
        for name, state in health.items()
    ]


def _system(gpus: Sequence[Mapping[str, object]]) -> s.SystemInfo:
    info = system_info(gpus)
    return s.SystemInfo(
        platform=info.platform,
        arch=info.arch,
        total_memory=info.total_memory,
        free_memory=info.free_memory,
        cpu_count=info.cpu_count,
        has_gpu=bool(info.gpus),
        gpus=[dict(gpu) for gpu in info.gpus],
    )
