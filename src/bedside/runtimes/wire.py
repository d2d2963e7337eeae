"""How a runtime speaks HTTP to its node: to the inside only, no proxies, no redirects, no surprises.

An address is checked twice: when the node is configured (``refuse_outside``), and again for every name
that is resolved while the program runs (``InsideResolver``), so that a changed DNS answer can't move a
node out of the building.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from bedside.core.errors import BedsideError

Networks = Sequence[IPv4Network | IPv6Network]


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

    No total timeout: silence is bounded where the stream is read. No proxy, cookies or redirects.
    """
    resolver = ThreadedResolver() if networks is None else InsideResolver(networks)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver, ttl_dns_cache=10, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        trust_env=False,
    )


async def lines(response: aiohttp.ClientResponse, node: str, stall_seconds: float) -> AsyncIterator[bytes]:
    """The lines of a streamed answer, stripped, blank ones left out.

    Raises ``STREAM_STALLED`` after ``stall_seconds`` without a byte, ``STREAM_INCOMPLETE`` when the
    connection breaks, ``NODE_GARBLED`` when one line is over the reader's limit (64 KiB).
    """
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                line = await response.content.readline()
        except TimeoutError:
            raise BedsideError("STREAM_STALLED", node=node, seconds=int(stall_seconds)) from None
        except aiohttp.ClientError:
            raise BedsideError("STREAM_INCOMPLETE", node=node) from None
        except ValueError:
            raise BedsideError("NODE_GARBLED", node=node) from None
        if not line:
            return
        if stripped := line.strip():
            yield stripped
