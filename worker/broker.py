"""kombu's Redis transport as every process of ours connects by it, those too that only ring.

redis-py introduces itself to a server with CLIENT SETINFO. A user of the server that has no other rights than it needs
(deploy/users.acl) is refused that, each time, and who looks through the refusals (ACL LOG) for what is wrong would find
nothing but those. A right to it can't be given on Redis 7.0, which does not know the command.
"""

from __future__ import annotations

from typing import Any, Final

import kombu.transport
import kombu.transport.redis

ALIASES: Final = ("redis", "rediss", "valkey", "valkeys")
_KOMBUS: Final = "kombu.transport.redis:Transport"
_OURS: Final = f"{__name__}:Transport"


class Channel(kombu.transport.redis.Channel):
    """A channel that connects without a word about the library."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        found: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return found | {"driver_info": None}


class Transport(kombu.transport.redis.Transport):
    """The Redis transport with such channels."""

    Channel = Channel


def install() -> None:
    """Make Redis brokers of this process use it, where what does more is not in use already (runtime.transport)."""
    for alias in ALIASES:
        if kombu.transport.TRANSPORT_ALIASES.get(alias) in {None, _KOMBUS}:
            kombu.transport.TRANSPORT_ALIASES[alias] = _OURS
