"""How a runtime reads what a node sends, and where it may connect to. Against real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from bedside.core.errors import BedsideError
from bedside.runtimes import wire

LOOPBACK = (ip_network("127.0.0.0/8"),)
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Play = Callable[[asyncio.StreamWriter], None]


@asynccontextmanager
async def peer(*parts: bytes, hang: bool = False) -> AsyncIterator[str]:
    """A server that answers any request with ``parts``, one write each, and then ends or hangs."""
    release = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if hang:
            await release.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        release.set()
        server.close()


async def read(url: str, stall: float = 5.0) -> Sequence[bytes]:
    async with (
        wire.open_session(LOOPBACK) as session,
        wire.opened(session, "node", "GET", url, seconds=stall) as response,
    ):
        return [line async for line in wire.lines(response, "node", stall)]


async def failure(url: str, stall: float = 5.0) -> str:
    with pytest.raises(BedsideError) as caught:
        await read(url, stall)
    return caught.value.code


@pytest.mark.anyio
async def test_lines_come_whole_however_the_network_cuts_them() -> None:
    async with peer(HEAD, b'{"a": "\xf0\x9f', b'\xab\x80"}\n{"b"', b": 1}\r\n\n\n{}") as url:
        assert await read(url) == ['{"a": "🫀"}'.encode(), b'{"b": 1}', b"{}"]


@pytest.mark.anyio
async def test_a_line_over_64_kib_is_read() -> None:
    async with peer(HEAD, b"x" * 300_000, b"\ny\n") as url:
        assert [len(line) for line in await read(url)] == [300_000, 1]


@pytest.mark.anyio
async def test_a_line_without_end_is_given_up_and_not_gathered() -> None:
    async with peer(HEAD, b"x" * (wire.LINE_LIMIT + 70_000), hang=True) as url:
        assert await failure(url) == "NODE_GARBLED"


@pytest.mark.anyio
async def test_silence_after_the_head_is_a_stall() -> None:
    async with peer(HEAD, b"one\n", hang=True) as url:
        assert await failure(url, stall=0.2) == "STREAM_STALLED"


@pytest.mark.anyio
async def test_silence_before_the_head_is_a_stall() -> None:
    async with peer(hang=True) as url:
        assert await failure(url, stall=0.2) == "STREAM_STALLED"


@pytest.mark.anyio
async def test_an_answer_shorter_than_promised_is_incomplete() -> None:
    async with peer(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"one\n") as url:
        assert await failure(url) == "STREAM_INCOMPLETE"


@pytest.mark.anyio
async def test_a_peer_that_speaks_something_else_is_garbled() -> None:
    async with peer(b"220 mail.example ESMTP ready\r\n") as url:
        assert await failure(url) == "NODE_GARBLED"


@pytest.mark.anyio
async def test_a_peer_that_hangs_up_at_once_is_unreachable() -> None:
    async with peer() as url:
        assert await failure(url) == "NODE_UNREACHABLE"


@pytest.mark.anyio
async def test_a_port_where_nothing_listens_is_unreachable() -> None:
    async with peer() as url:
        pass
    assert await failure(url) == "NODE_UNREACHABLE"


@pytest.mark.anyio
async def test_a_closed_session_is_unreachable() -> None:
    session = wire.open_session(LOOPBACK)
    await session.close()
    with pytest.raises(BedsideError, match="does not answer"):
        async with wire.opened(session, "node", "GET", "http://127.0.0.1:1/", seconds=1):
            pass


@pytest.mark.anyio
async def test_a_redirect_is_handed_over_and_not_followed() -> None:
    async with (
        peer(b"HTTP/1.1 302 X\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n") as url,
        wire.open_session(LOOPBACK) as session,
        wire.opened(session, "node", "GET", url, seconds=5) as response,
    ):
        assert response.status == 302


@pytest.mark.anyio
async def test_a_proxy_named_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:8080")
    async with peer(HEAD, b"one\n") as url:
        assert await read(url) == [b"one"]


@pytest.mark.anyio
async def test_a_whole_answer_is_bounded() -> None:
    async with (
        peer(HEAD, b"x" * 5000) as url,
        wire.open_session(LOOPBACK) as session,
        wire.opened(session, "node", "GET", url, seconds=5) as response,
    ):
        with pytest.raises(BedsideError) as caught:
            await wire.whole(response, "node", limit=4999)
    assert caught.value.code == "NODE_GARBLED"


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_no_record(raw: bytes) -> None:
    with pytest.raises(BedsideError) as caught:
        wire.record(raw, "node")
    assert caught.value.code == "NODE_GARBLED"


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::5%eth0", True),
        ("10.2.0.1", False),
        ("192.168.1.1", False),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),  # noqa: S104 - an address to judge, not to bind
    ],
)
def test_inside_is_loopback_and_the_named_networks_and_nothing_else(address: str, inside: bool) -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert wire.is_inside(address, networks) is inside


def test_an_outside_address_is_refused_when_the_node_is_configured() -> None:
    with pytest.raises(BedsideError) as caught:
        wire.refuse_outside("http://192.0.2.1:11434", LOOPBACK)
    assert caught.value.code == "NODE_OUTSIDE"
    wire.refuse_outside("http://127.0.0.1:11434", LOOPBACK)
    wire.refuse_outside("http://no-such-host.invalid:11434", LOOPBACK)


@pytest.mark.anyio
async def test_a_name_is_judged_again_whenever_it_is_looked_up() -> None:
    """Names in DNS change; this one is judged by the address it has now, not by what was found at start."""
    resolver = wire.InsideResolver(LOOPBACK)
    assert {found["host"] for found in await resolver.resolve("localhost", 80, socket.AF_INET)} == {"127.0.0.1"}
    with pytest.raises(BedsideError) as caught:
        await resolver.resolve("192.0.2.1", 80)
    assert caught.value.code == "NODE_OUTSIDE"
    await resolver.close()


@pytest.mark.anyio
async def test_a_whole_answer_that_breaks_off_is_incomplete() -> None:
    async with (
        peer(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"{") as url,
        wire.open_session(LOOPBACK) as session,
        wire.opened(session, "node", "GET", url, seconds=5) as response,
    ):
        with pytest.raises(BedsideError) as caught:
            await wire.whole(response, "node")
    assert caught.value.code == "STREAM_INCOMPLETE"
