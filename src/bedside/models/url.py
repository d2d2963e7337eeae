"""A model's file from an HTTP(S) address, going on where an earlier run or a broken connection stopped.

Source: RFC 9110, sections 13.1.5 (If-Range), 14.2 (Range) and 15.3.7 (206 Partial Content).
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urlsplit

from bedside.models.files import CHUNK, Progress, settle, write_whole
from bedside.models.sources import FILE, Broken, UrlSpec, Want, Wrong, key_of

ATTEMPTS = 5
SILENCE_SECONDS = 60
VALIDATOR = "validator.json"
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d+|\*)")


class _Again(Exception):
    """This attempt failed in a way that another one may not; its text is the reason."""


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP and HTTPS only, and never from HTTPS down to HTTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise urllib.error.HTTPError(newurl, code, "refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS through the environment's proxies; unlike the default one it knows no files and no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _HttpOnly(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True, slots=True)
class Url:
    """Fetches with up to ``ATTEMPTS`` attempts in a row that bring nothing; ``pause`` waits between them."""

    spec: UrlSpec
    pause: Callable[[float], None]
    kind: Literal["url"] = "url"

    @property
    def key(self) -> str:
        return key_of(self.spec)

    @property
    def label(self) -> str:
        return urlsplit(self.spec.url).hostname or "the address"

    def scratch(self, want: Want) -> int:
        return 0

    def fetch(self, want: Want, folder: Path, progress: Progress) -> None:
        file, failures = folder / FILE, 0
        file.touch()
        while (before := file.stat().st_size) < want.size:
            try:
                self._attempt(want, folder, progress)
            except _Again as why:
                failures = failures + 1 if file.stat().st_size <= before else 1
                if failures >= ATTEMPTS:
                    raise Broken(f"{self.label}: {why}") from None
                self.pause(0.5 * 2**failures)
        if file.stat().st_size > want.size:
            raise Wrong(f"it is longer than {want.size} bytes")

    def _attempt(self, want: Want, folder: Path, progress: Progress) -> None:
        file = folder / FILE
        have = file.stat().st_size
        with self._open(_headers(folder, have), file) as response:
            start = _start(response, have, want)
            if start is None:
                file.write_bytes(b"")
                raise _Again("the server answers with another part than was asked for")
            _keep_validator(folder, response.headers)
            _receive(response, file, start, want, progress)

    def _open(self, headers: dict[str, str], file: Path) -> HTTPResponse:
        request = urllib.request.Request(self.spec.url, headers=headers)  # noqa: S310 - the opener knows HTTP only
        try:
            response: HTTPResponse = _opener().open(request, timeout=SILENCE_SECONDS)
        except urllib.error.HTTPError as error:
            raise self._refused(error, file) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Again(_words(getattr(error, "reason", error))) from None
        return response

    def _refused(self, error: urllib.error.HTTPError, file: Path) -> Exception:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            # The file there is shorter now than what is here: another file. From the beginning.
            file.write_bytes(b"")
            return _Again("the server no longer has the part that is missing")
        if 300 <= error.code < 400:
            return Broken(f"{self.label}: the server redirects to an address that is refused")
        if error.code in _WORTH_ANOTHER_TRY:
            return _Again(f"the server answers {error.code}")
        return Broken(f"{self.label}: the server answers {error.code}")


def _headers(folder: Path, have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "bedside"}
    if have:
        headers["Range"] = f"bytes={have}-"
        with suppress(OSError, ValueError, KeyError, TypeError):
            headers["If-Range"] = str(json.loads((folder / VALIDATOR).read_bytes())["validator"])
    return headers


def _keep_validator(folder: Path, headers: Message) -> None:
    """Remembers what tells this version of the file from another; a weak ETag may not (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag") or "W/"
    strong = headers.get("Last-Modified") if tag.startswith("W/") else tag
    if strong is None:
        (folder / VALIDATOR).unlink(missing_ok=True)
    else:
        write_whole(folder / VALIDATOR, json.dumps({"validator": strong}).encode())


def _start(response: HTTPResponse, have: int, want: Want) -> int | None:
    """Where the body belongs in the file; ``None``: nowhere. Raises ``Wrong`` when the whole has another size."""
    if response.status == http.client.PARTIAL_CONTENT:
        place = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != have:
            return None
        total = place[2]
    else:
        have, total = 0, response.headers.get("Content-Length", "*")
    if total not in ("*", str(want.size)):
        raise Wrong(f"it is {total} bytes long, not {want.size}")
    return have


def _receive(response: HTTPResponse, file: Path, start: int, want: Want, progress: Progress) -> None:
    with file.open("r+b") as target:
        target.truncate(start)
        target.seek(start)
        progress(start, want.size)
        try:
            while target.tell() <= want.size and (chunk := _read(response)):
                target.write(chunk)
                progress(min(target.tell(), want.size), want.size)
        finally:
            settle(target)
        if target.tell() < want.size:
            raise _Again("the connection broke")


def _read(response: HTTPResponse) -> bytes:
    """What arrived next; errors of the network are told from errors of the disk here."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Again(_words(error)) from None


def _words(error: object) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the connection broke"
