"""``bedside demo``: the main job once, for real, in a gateway that is thrown away afterwards."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    import aiohttp

ENCOUNTER = "65-year-old male with chest pain, BP 150/95, HR 88"
PROVIDER = "demo.provider"


def demo(*, allow_download: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Start a gateway on a free port with a temporary data folder, sign in as a provider, have a real local
    model draft a SOAP note, show what came, check the audit log, and stop everything.

    Examples:

        bedside demo --allow-download

    Parameters
    ----------
    allow_download
        The starter model may be fetched if it is not here.
    """
    from bedside.cli.models import pull
    from bedside.operations.configuration import load_settings

    model = load_settings().text("BEDSIDE_MODEL")
    with tempfile.TemporaryDirectory(prefix="bedside-demo-") as folder:
        os.environ |= {"BEDSIDE_DATA": folder, "BEDSIDE_PORT": "0", "BEDSIDE_HOST": "127.0.0.1"}
        environment = dict(os.environ)
        pull(model, allow_download=allow_download)
        with _gateway(environment) as url:
            print(f"Gateway on {url}, data in {folder}")
            added = _bedside(environment, "users", "add", PROVIDER, "--role", "provider", "--json")
            asyncio.run(_draft(url, model, json.loads(added.stdout)["oneTimePassword"]))
            verdict = _bedside(environment, "audit", "verify")
            print(f"\n{verdict.stdout.strip()}")
    print("Stopped; the temporary data is gone.")
    return verdict.returncode


@contextmanager
def _gateway(environment: dict[str, str]) -> Iterator[str]:
    """A gateway of its own, as ``bedside serve`` starts it; its log goes to the data folder."""
    with open(os.path.join(environment["BEDSIDE_DATA"], "gateway.log"), "w") as log:
        command = [sys.executable, "-m", "bedside", "serve", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603
        try:
            assert process.stdout  # noqa: S101 - it is a pipe
            line = process.stdout.readline()
            if not line:
                raise SystemExit(process.wait())
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait()


def _bedside(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bedside", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


async def _draft(url: str, model: str, one_time_password: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession(url, trust_env=False) as http:
        token = await _sign_in(http, one_time_password)
        print(f"Signed in as {PROVIDER} (provider).\nEncounter: {ENCOUNTER}\n\nTokens as they come:\n")
        body = {"text": ENCOUNTER, "model": model, "stream": True}
        headers = {"Authorization": f"Bearer {token}"}
        async with http.post("/api/tasks/soap-note", json=body, headers=headers) as answer:
            if answer.status != 200:
                raise SystemExit((await answer.json())["error"]["message"])
            note = await _show_tokens(answer)
    _show(note)


async def _sign_in(http: "aiohttp.ClientSession", password: str) -> str:
    """As anyone does at first: with the one-time password, and then at once with a new one."""
    import secrets

    first = await _post(http, "/api/auth/login", {"username": PROVIDER, "password": password})
    new = {"currentPassword": password, "newPassword": secrets.token_urlsafe(24)}
    signed_in = await _post(http, "/api/auth/password", new, first["token"])
    return str(signed_in["token"])


async def _post(http: "aiohttp.ClientSession", path: str, body: dict[str, str], token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.post(path, json=body, headers=headers) as answer:
        found = await answer.json()
    if not found["success"]:
        raise SystemExit(found["error"]["message"])
    return found["data"]


async def _show_tokens(answer: "aiohttp.ClientResponse") -> Any:
    event = ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            if event == "token":
                print(data["text"], end="", flush=True)
            elif event == "done":
                return data
            elif event == "error":
                raise SystemExit(f"\n{data['message']}")
    raise SystemExit("\nThe stream ended without its last event.")


def _show(note: Any) -> None:
    timings = note["timings"]
    print(f"\n\nThe note, a {note['status']} for a clinician to correct:\n\n{note['response']}\n")
    print(f"Marked [not in source]: {len(note['flags'])}. Those words or numbers are not in the encounter's text;")
    print("a sentence without a mark was not proved right, only its words and numbers were found.\n")
    print(f"Model: {note['model']} ({note['digest']})")
    print(f"Tokens: {note['promptTokens']} read ({timings['cachedTokens']} from the cache), {note['tokens']} written")
    print(f"Time to first token: {timings['firstTokenMs']:.0f} ms (with loading the model)")
    print(f"Speed: {timings['tokensPerSecond']} tokens/s")
