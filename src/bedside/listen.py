"""Runs the program behind a listening socket until a signal says stop; then lets running requests finish."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator

import uvicorn

from bedside.core.errors import BedsideError
from bedside.core.settings import Settings
from bedside.server import Server, build
from bedside.storage.filelock import alone
from bedside.vault import first_admin

Announce = Callable[[str, str | None], None]


def listen_and_serve(settings: Settings, announce: Announce) -> None:
    """Returns after SIGTERM or Ctrl-C. ``announce`` gets the address and a new admin's one-time password.

    Raises ``PORT_IN_USE``, and what opening the data folder raises.
    """
    with (
        _listener(settings.text("BEDSIDE_HOST"), settings.number("BEDSIDE_PORT")) as listener,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, listener, announce))


async def _serve(settings: Settings, listener: socket.socket, announce: Announce) -> None:
    server, vault = build(settings)
    folder = settings.path("BEDSIDE_DATA")
    try:
        with alone(folder / "gateway.lock") as free:
            if not free:
                raise BedsideError("DATA_IN_USE", path=folder)
            password = await first_admin(vault)
            async with server.running():
                http = Http(http_config(server, settings.number("BEDSIDE_DRAIN_SECONDS")))
                with _on_signals(lambda: _stop(server, http)):
                    announce(_url(listener), password)
                    await http.serve(sockets=[listener])
                    await _end(http.server_state.tasks)
    finally:
        vault.close()


async def _end(requests: Iterable["asyncio.Task[None]"]) -> None:
    """Requests that were not waited for any longer: ended here, while their outcome can still be recorded."""
    left = list(requests)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class Http(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again at its end, before our own parts are stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_config(server: Server, drain_seconds: int) -> uvicorn.Config:
    """How HTTP is spoken: no logs, no signals and no trust in headers but our own."""
    return uvicorn.Config(
        server.app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=drain_seconds,
    )


def _stop(server: Server, http: uvicorn.Server) -> None:
    """The first signal drains; a second one does not wait any longer."""
    http.force_exit = http.should_exit
    server.turnstile.close()
    http.should_exit = True


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    if sys.platform == "win32":  # no signal handlers in its event loop
        before = [signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop)) for number in signals]
        yield
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        return
    for number in signals:
        loop.add_signal_handler(number, stop)
    yield
    for number in signals:
        loop.remove_signal_handler(number)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as why:
        raise BedsideError("PORT_IN_USE", host=host, port=port, why=why.strerror) from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
