"""Wiring only: builds each part once from the settings and joins them; the one file that knows all."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

from bedside.api.middleware import Edge
from bedside.api.rest import Rest
from bedside.core.clock import Clock, SystemClock
from bedside.core.errors import BedsideError
from bedside.core.settings import Settings
from bedside.gateway.admission import Admission
from bedside.gateway.handle import Gateway, Limits
from bedside.gateway.recorded import recorded
from bedside.gateway.turnstile import Turnstile
from bedside.models import gguf
from bedside.models.catalogue import built_in
from bedside.models.store import ModelStore
from bedside.operations.hardware import engine_threads, free_memory
from bedside.runtimes.base import Runtime
from bedside.runtimes.embedded import EmbeddedConfig, EmbeddedRuntime, EngineModel
from bedside.runtimes.engine_process import Patience
from bedside.runtimes.fake import FakeRuntime
from bedside.runtimes.ollama import OllamaRuntime
from bedside.runtimes.pool import Pool
from bedside.runtimes.wire import refuse_outside
from bedside.site import RunningSite, missing_model
from bedside.vault import Vault, open_vault, operator_record


def nodes(settings: Settings) -> Sequence[Runtime]:
    """The nodes in order of preference. Raises ``NODE_OUTSIDE`` for one that is not in the building."""
    found: list[Runtime] = [_embedded(settings)]
    if settings.flag("BEDSIDE_FAKE"):
        found.append(FakeRuntime(remember=0))
    if url := settings.text("OLLAMA_URL"):
        networks = settings.networks("BEDSIDE_INSIDE_NETWORKS") if settings.flag("HIPAA_MODE") else None
        if networks is not None:
            refuse_outside(url, networks)
        key_file = settings.optional_path("BEDSIDE_OLLAMA_KEY_FILE")
        found.append(
            OllamaRuntime(
                url,
                networks,
                _read_key(key_file) if key_file else None,
                settings.number("BEDSIDE_CONTEXT"),
                load_seconds=settings.number("BEDSIDE_LOAD_SECONDS"),
            )
        )
    return found


def _embedded(settings: Settings) -> EmbeddedRuntime:
    store = ModelStore(settings.path("BEDSIDE_MODELS_DIR"))
    config = EmbeddedConfig(
        context=settings.number("BEDSIDE_CONTEXT"),
        parallel=settings.number("OLLAMA_NUM_PARALLEL"),
        max_loaded=settings.number("OLLAMA_MAX_LOADED_MODELS"),
        prompt_cache_mib=settings.number("BEDSIDE_PROMPT_CACHE_MB"),
        threads=engine_threads(),
        free_memory=free_memory,
        gpu=settings.text("GPU_ACCELERATION"),
        check=check_file,
        patience=Patience(load=settings.number("BEDSIDE_LOAD_SECONDS")),
    )
    return EmbeddedRuntime(config, Library(store))


def check_file(path: Path) -> None:
    """The file is in the store itself and its header is sound; looked at before every load. Raises ``GGUF_INVALID``."""
    if path.is_symlink():
        raise BedsideError("GGUF_INVALID", path=path.name, why="it is a link to a file elsewhere")
    gguf.read(path)


class Library:
    """The installed models as the engine is told of them; the disk is read again only when the store changed."""

    def __init__(self, store: ModelStore) -> None:
        self._store, self._seen, self._models = store, -1, list[EngineModel]()

    def __call__(self) -> Sequence[EngineModel]:
        if (version := self._store.version()) != self._seen:
            self._models = [EngineModel(model.info(), model.path) for model in self._store.installed()]
            self._seen = version
        return self._models


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is not text"
        raise BedsideError("FILE_UNREADABLE", path=path, why=reason) from None


class Server:
    """The whole program, ready to be served: an ASGI app with a lifespan."""

    def __init__(self, settings: Settings, vault: Vault, runtimes: Sequence[Runtime], clock: Clock) -> None:
        self._vault = vault
        catalogue = built_in()
        self.pool = Pool(runtimes, partial(missing_model, catalogue))
        self.turnstile = Turnstile(
            Admission(settings.number("OLLAMA_NUM_PARALLEL"), settings.number("OLLAMA_MAX_QUEUE"))
        )
        self.gateway = Gateway(
            vault.accounts,
            vault.audit,
            self.turnstile,
            self.pool,
            text_key=vault.text_key,
            clock=clock,
            limits=Limits(
                settings.number("BEDSIDE_REQUEST_SECONDS"),
                settings.number("BEDSIDE_STALL_SECONDS"),
                settings.flag("LOCAL_MODELS_ENABLED"),
            ),
            default_model=settings.text("BEDSIDE_MODEL"),
        )
        rest = Rest(self.gateway, RunningSite(settings, self.pool, catalogue, self.turnstile))
        proxies = settings.networks("BEDSIDE_TRUSTED_PROXIES")
        self.app: ASGIApp = Edge(rest.app(), settings.number("BEDSIDE_MAX_BODY_MB") * 1024 * 1024, proxies)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ASGIApp]:
        """Starts the nodes, and stops them at the end; both ends are in the log."""
        await self._note("site:gateway:start")
        await self.pool.start()
        try:
            yield self.app
        finally:
            await self.pool.stop()
            await self._note("site:gateway:stop")

    async def _note(self, action: str) -> None:
        async def nothing() -> None:
            """The record is all."""

        await recorded(self._vault.audit, operator_record(action), nothing)


def build(settings: Settings, clock: Clock | None = None) -> tuple[Server, Vault]:
    """The program as the settings ask for it."""
    clock = clock or SystemClock()
    runtimes = nodes(settings)  # before the vault: what is refused here leaves no trace in the data folder
    vault = open_vault(settings, clock)
    return Server(settings, vault, runtimes, clock), vault
