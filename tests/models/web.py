"""A real web server on loopback for one file, with ranges, that misbehaves on demand."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """What is served, and what was asked. ``script`` answers the first requests, then ``whole`` does."""

    content: bytes = b""
    etag: str = '"v1"'
    script: list[Answer] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    ranges: list[tuple[str | None, str | None]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/model.gguf"


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.paths.append(self.path)
        self.site.ranges.append((self.headers["Range"], self.headers["If-Range"]))
        answer = self.site.script.pop(0) if self.site.script else whole
        answer(self)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def begin(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def whole(handler: Handler) -> None:
    """Answers as RFC 9110 has it: 206 for a range of the same version, else 200 with everything."""
    site, wanted = handler.site, handler.headers["Range"]
    same = handler.headers["If-Range"] in (None, site.etag)
    if not wanted or not same:
        handler.begin(200, Content_Length=len(site.content), ETag=site.etag)
        handler.wfile.write(site.content)
        return
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    if start >= len(site.content):
        handler.begin(416, Content_Range=f"bytes */{len(site.content)}")
        return
    place = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
    handler.begin(206, Content_Length=len(site.content) - start, Content_Range=place, ETag=site.etag)
    handler.wfile.write(site.content[start:])


def torn(after: int) -> Answer:
    """Promises everything, sends ``after`` bytes of it, and hangs up."""

    def answer(handler: Handler) -> None:
        site = handler.site
        handler.begin(200, Content_Length=len(site.content), ETag=site.etag)
        handler.wfile.write(site.content[:after])

    return answer


def ignoring_ranges(handler: Handler) -> None:
    handler.begin(200, Content_Length=len(handler.site.content))
    handler.wfile.write(handler.site.content)


def another_part(handler: Handler) -> None:
    size = len(handler.site.content)
    handler.begin(206, Content_Length=1, Content_Range=f"bytes {size - 1}-{size - 1}/{size}")
    handler.wfile.write(b"x")


def status(code: int, **headers: object) -> Answer:
    return lambda handler: handler.begin(code, Content_Length=0, **headers)


def endless(handler: Handler) -> None:
    """No length, and more bytes than the file has."""
    handler.begin(200)
    handler.wfile.write(handler.site.content + b"and more")


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")


def held(handler: Handler) -> None:
    """Sends nothing but the first half until the test releases it, or the client goes away."""
    site = handler.site
    half = len(site.content) // 2
    handler.begin(200, Content_Length=len(site.content), ETag=site.etag)
    handler.wfile.write(site.content[:half])
    site.asked.set()
    handler.connection.settimeout(0.05)
    while not site.release.is_set():
        try:
            gone = handler.connection.recv(1) == b""
        except TimeoutError:
            continue
        except OSError:
            gone = True
        if gone:
            site.let_go.set()
            return
    handler.connection.settimeout(None)
    handler.wfile.write(site.content[half:])


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serves ``site`` on a free loopback port while the block runs."""
    bound = type("Bound", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
