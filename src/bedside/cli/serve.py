"""``bedside serve``: the gateway, until it is told to stop."""

import json as jsonlib
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter


def serve(*, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Start the gateway and stay until SIGTERM or Ctrl-C; then running requests may finish.

    Settings come from the environment, .env and bedside.toml: see 'bedside settings'. Without any user yet,
    'admin' is made and its one-time password printed once.

    Examples:

        bedside serve
        BEDSIDE_PORT=8080 bedside serve

    Parameters
    ----------
    json
        Print the address, and a new admin's password, as one JSON line.
    """
    from bedside.listen import listen_and_serve
    from bedside.operations.configuration import load_settings
    from bedside.operations.logs import set_up_logs
    from bedside.runtimes.wire import is_inside

    def announce(url: str, password: str | None) -> None:
        if json:
            print(jsonlib.dumps({"url": url, "adminPassword": password}), flush=True)
            return
        if password:
            print(f"Made the user admin. One-time password, shown only now: {password}")
        print(f"bedside listens on {url}", flush=True)
        if not is_inside(urlsplit(url).hostname or "", ()):
            print("Others can reach it, and it speaks plain HTTP: put a proxy with TLS in front.", flush=True)

    settings = load_settings()
    set_up_logs(settings.text("BEDSIDE_LOG"))
    listen_and_serve(settings, announce)
    if not json:
        print("bedside has stopped.")
