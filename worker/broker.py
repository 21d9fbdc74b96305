"""kombu's Redis transport as every process of ours connects by it, those too that only ring.

redis-py introduces itself to a server with CLIENT SETINFO. A user of the server that has no other rights than it needs
(deploy/users.acl) is refused that, each time, and who looks through the refusals (ACL LOG) for what is wrong would find
nothing but those. A right to it can't be given on Redis 7.0, which does not know the command.
"""

from __future__ import annotations

from typing import Any, Final

import kombu.transport
import kombu.transport.redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from worker.address import Address

ALIASES: Final = ("redis", "rediss", "valkey", "valkeys")
_KOMBUS: Final = "kombu.transport.redis:Transport"
_OURS: Final = f"{__name__}:Transport"
_KOMBUS_SENTINEL: Final = "kombu.transport.redis:SentinelTransport"
_OUR_SENTINEL: Final = f"{__name__}:SentinelTransport"
PATIENCE: Final = 0.4  # seconds for one Sentinel


class Channel(kombu.transport.redis.Channel):
    """A channel that connects without a word about the library."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        found: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return found | {"driver_info": None}


class SentinelChannel(Channel, kombu.transport.redis.SentinelChannel):
    """The same for the primary that Sentinels know."""


class Transport(kombu.transport.redis.Transport):
    """The Redis transport with such channels."""

    Channel = Channel


class SentinelTransport(kombu.transport.redis.SentinelTransport):
    """The Sentinel transport with such channels."""

    Channel = SentinelChannel


def sentinel_options(address: Address) -> dict[str, Any]:
    """What kombu's Sentinel transport has to be told beside its URL. Sentinels are asked once, and the next one then:
    by itself redis-py tries each that is away for four seconds."""
    asked = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}
    asked |= {"username": address.sentinel_user or None, "password": address.sentinel_password or None}
    return {"master_name": address.service, "sentinel_kwargs": asked | {"driver_info": None} | tls_options(address)}


def tls_options(address: Address) -> dict[str, Any]:
    """How to speak TLS with the servers, in the words of redis-py's connections; nothing without TLS."""
    if not address.tls:
        return {}
    found = {name: value for name, value in parse_url(address.server_url).items() if name.startswith("ssl_")}
    return {"ssl": True, "ssl_cert_reqs": "required", **found}


def install() -> None:
    """Make Redis brokers of this process use it, where what does more is not in use already (runtime.transport)."""
    for alias in ALIASES:
        if kombu.transport.TRANSPORT_ALIASES.get(alias) in {None, _KOMBUS}:
            kombu.transport.TRANSPORT_ALIASES[alias] = _OURS
    if kombu.transport.TRANSPORT_ALIASES["sentinel"] == _KOMBUS_SENTINEL:
        kombu.transport.TRANSPORT_ALIASES["sentinel"] = _OUR_SENTINEL
