"""How a runtime speaks HTTP to its node: to the inside only, no proxies, no redirects, no surprises.

An address is checked twice: when the node is configured (``refuse_outside``), and again for every name
that is resolved while the program runs (``InsideResolver``), so that a changed DNS answer can't move a
node out of the building.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from pydantic_core import from_json

from bedside.core.errors import BedsideError
from bedside.core.waits import Waits

Networks = Sequence[IPv4Network | IPv6Network]
# RuntimeError: what the client library raises for a read just after its own session was closed.
_BROKEN = (aiohttp.ClientError, ConnectionError, RuntimeError)
LINE_LIMIT = 1024 * 1024  # one streamed record; real ones stay under a few KiB
BODY_LIMIT = 32 * 1024 * 1024  # one whole answer; a list of some thousand models is about 2 MiB


def is_inside(address: str, networks: Networks) -> bool:
    """Whether an IP address is loopback or in one of the operator's named networks."""
    ip = ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return mapped.is_loopback or any(mapped in network for network in networks if network.version == mapped.version)


def refuse_outside(url: str, networks: Networks) -> None:
    """Raises ``NODE_OUTSIDE`` unless every address of the URL's host is inside.

    A name that does not resolve now is let through: it can't be reached, and ``InsideResolver`` will
    judge it when it can.
    """
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, sockaddr in found:
        if not is_inside(str(sockaddr[0]), networks):
            raise BedsideError("NODE_OUTSIDE", node=host, address=sockaddr[0])


class InsideResolver(AbstractResolver):
    """Resolves names as the system does, and fails when any address found is outside."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for result in found:
            if not is_inside(result["host"], self._networks):
                raise BedsideError("NODE_OUTSIDE", node=host, address=result["host"])
        return found

    async def close(self) -> None:
        await self._system.close()


def open_session(networks: Networks | None, headers: dict[str, str] | None = None) -> aiohttp.ClientSession:
    """A client session for one node. ``networks=None`` (HIPAA_MODE=false) lets names resolve anywhere.

    No total timeout: silence is bounded where the stream is read. No proxy and no cookies; redirects are
    refused by ``opened``, because the client library only knows them per call.
    """
    resolver = ThreadedResolver() if networks is None else InsideResolver(networks)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver, ttl_dns_cache=10, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        trust_env=False,
    )


@asynccontextmanager
async def opened(
    session: aiohttp.ClientSession | None,
    node: str,
    method: str,
    url: str,
    *,
    seconds: float,
    body: object = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """One call to a node, its answer not read yet; ``body`` goes as JSON. A redirect is an answer like any other.

    Leaving before the answer was read to its end closes the connection: that is what makes a node stop working.
    Raises ``NODE_UNREACHABLE`` (no connection, or no session), ``STREAM_STALLED`` when no head of an answer
    came within ``seconds``, ``NODE_GARBLED`` when what came is not HTTP.
    """
    if session is None or session.closed:
        raise BedsideError("NODE_UNREACHABLE", node=node)
    try:
        async with asyncio.timeout(seconds):
            response = await session.request(method, url, json=body, allow_redirects=False)
    except aiohttp.ClientResponseError:
        raise BedsideError("NODE_GARBLED", node=node) from None
    except _BROKEN:
        # Before TimeoutError: a connection that is not made in time is both.
        raise BedsideError("NODE_UNREACHABLE", node=node) from None
    except TimeoutError:
        raise BedsideError("STREAM_STALLED", node=node, seconds=int(seconds)) from None
    try:
        yield response
    finally:
        if response.content.at_eof():
            response.release()
        else:
            response.close()


async def whole(response: aiohttp.ClientResponse, node: str, limit: int = BODY_LIMIT) -> bytes:
    """The whole of an answer. Raises ``NODE_GARBLED`` over ``limit`` bytes, ``STREAM_INCOMPLETE`` when it breaks."""
    parts = bytearray()
    try:
        async for chunk in response.content.iter_any():
            parts += chunk
            if len(parts) > limit:
                raise BedsideError("NODE_GARBLED", node=node)
    except _BROKEN:
        raise BedsideError("STREAM_INCOMPLETE", node=node) from None
    return bytes(parts)


def record(raw: bytes, node: str) -> dict[str, object]:
    """One JSON object as a node sent it. Raises ``NODE_GARBLED`` for anything else."""
    try:
        found = from_json(raw)  # a third of what json.loads takes, and it runs for every token
    except ValueError:
        raise BedsideError("NODE_GARBLED", node=node) from None
    if not isinstance(found, dict):
        raise BedsideError("NODE_GARBLED", node=node)
    return found


async def lines(response: aiohttp.ClientResponse, node: str, stall_seconds: float) -> AsyncGenerator[bytes]:
    """The lines of a streamed answer, stripped, blank ones left out; a last one without its line end counts.

    Raises ``STREAM_STALLED`` after ``stall_seconds`` without a byte, ``STREAM_INCOMPLETE`` when the
    connection breaks, ``NODE_GARBLED`` when one line is over ``LINE_LIMIT`` bytes.
    """
    held = b""
    with closing(Waits(seconds=stall_seconds)) as waits:
        while chunk := await _chunk(response, node, waits, stall_seconds):
            *whole, held = (held + chunk).split(b"\n")
            for line in whole:
                if stripped := line.strip():
                    yield stripped
            if len(held) > LINE_LIMIT:
                raise BedsideError("NODE_GARBLED", node=node)
    if stripped := held.strip():
        yield stripped


async def _chunk(response: aiohttp.ClientResponse, node: str, waits: Waits, stall_seconds: float) -> bytes:
    # Not readline(): its limit is 64 KiB, and it waits once per line where one read often brings many.
    try:
        with waits:
            return await response.content.readany()
    except _BROKEN:
        raise BedsideError("STREAM_INCOMPLETE", node=node) from None
    except TimeoutError:
        raise BedsideError("STREAM_STALLED", node=node, seconds=int(stall_seconds)) from None
