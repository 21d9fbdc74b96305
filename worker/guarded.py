"""HTTP to an address that somebody else names: only on the public internet, and no more of an answer than is of use.

A URL from a user, or a name whose owner may point it anywhere, must not make a worker call what only its own network
can reach: a cloud's metadata, a database, a neighbour (server-side request forgery). ``PublicOnly`` is a transport of
httpx that looks the name up itself, leaves out each address that is not public, and connects to one of those that are
left. What is connected to is what was checked, so a name that answers differently the next time (DNS rebinding) gains
nothing. TLS and the Host header go by the name, as ever. A connection that is kept stays with its address.

    api = client("webhook", transport=PublicOnly)
    async with api.stream("POST", url, content=body) as answer:
        check(await bounded(answer))

A client with a transport uses no proxy of the environment, which would do the looking up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpcore
import httpx

from worker.outgoing import LIMITS

Address = IPv4Address | IPv6Address

# IANA's special-purpose registries, as networks and not as what ipaddress knows, which differs by Python's version.
_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # Azure's host, which every machine there can reach
        ),
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")  # all that is given out; loopback, local and multicast are elsewhere
_NOT_PUBLIC_6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64: Final = IPv6Network("64:ff9b::/96")  # an IPv4 address as networks without IPv4 write it

MOST: Final = 65536  # bytes of an answer that are read
PATIENCE: Final = 2.0  # seconds for them


def public(address: Address) -> bool:
    """Whether an address is one of the public internet's."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = IPv4Address(address.packed[-4:])
    if inner is not None:
        return public(inner)
    return address in _GLOBAL_6 and not any(address in network for network in _NOT_PUBLIC_6)


async def look_up(host: str, port: int) -> list[Address]:
    """The addresses of a name, as the system has them. Raises ``OSError``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))


class _Checked(httpcore.AsyncNetworkBackend):
    """Makes connections, of a pool, to public addresses."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(end):
                found = await look_up(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} can't be looked up in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be looked up: {error}") from None
        allowed = [address for address in found if public(address)]
        failed: Exception = httpcore.ConnectError(f"{host} has no public address, and no other is called")
        for left, address in zip(range(len(allowed), 0, -1), allowed, strict=True):
            # Each its share, or one that does not answer would leave nothing to the next.
            share = None if end is None else max(0.0, end - asyncio.get_running_loop().time()) / left
            try:
                return await self._inner.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class PublicOnly(httpx.AsyncBaseTransport):
    """A pool of connections to public addresses. ``verify``: the TLS context, default httpx's."""

    def __init__(self, verify: ssl.SSLContext | None = None, limits: httpx.Limits = LIMITS) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify or httpx.create_ssl_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Checked(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        with _as_httpx(request):
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Stream(response, request),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx(self._request):
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """Errors by the names that users of httpx know, which are the same."""
    try:
        yield
    except Exception as error:
        known = getattr(httpx, type(error).__name__, None)
        if type(error).__module__.partition(".")[0] != "httpcore" or known is None:
            raise
        raise known(str(error), request=request) from error


async def bounded(answer: httpx.Response, most: int = MOST, patience: float = PATIENCE) -> httpx.Response:
    """A streamed response with at most ``most`` bytes of its body, of those that come within ``patience`` seconds.

    The status is the answer: what comes after it, or does not come, makes no success a failure. The body is as it was
    sent, not unpacked (a few bytes may stand for gigabytes).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for part in answer.aiter_raw():
                body += part[: most - len(body)]
                if len(body) >= most:
                    break
    except (TimeoutError, httpx.TransportError):
        pass  # the status is there, and is the answer; of the body there is what came
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in _OF_THE_BODY]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


_OF_THE_BODY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
