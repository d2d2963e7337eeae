"""What the status calls show of the site; ``server.py`` makes one from the parts that run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bedside.api import schemas as s
from bedside.core.chat import ModelInfo


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, where it would run, and what installs it if it is not installed."""

    info: ModelInfo
    node: str | None = None
    loaded: bool = False
    install_command: str | None = None


class Site(Protocol):
    """Read-only views of the running program."""

    def health(self) -> s.Health: ...
    async def detailed_health(self) -> s.DetailedHealth: ...
    async def status(self) -> s.Status: ...
    async def models(self) -> Sequence[KnownModel]: ...
    async def model(self, name: str) -> KnownModel:
        """Raises ``MODEL_UNKNOWN``."""
        ...


def model_out(known: KnownModel) -> s.ModelOut:
    return s.ModelOut(**_fields(known.info))


def model_detail(known: KnownModel) -> s.ModelDetail:
    info = known.info
    return s.ModelDetail(
        **_fields(info),
        context_length=info.context_length,
        family=info.family,
        parameters=info.parameters,
        node=known.node,
        loaded=known.loaded,
        install_command=known.install_command,
    )


def _fields(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "display_name": info.display_name,
        "size": info.size,
        "type": info.type,
        "capabilities": list(info.capabilities),
        "description": info.description,
        "installed": info.installed,
        "quantization": info.quantization,
        "digest": info.digest,
        "license": info.license,
    }
