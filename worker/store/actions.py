"""What people did: an audit record of every command that changes something, in one stream, the newest ten thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis

from worker.store import keys
from worker.store.client import unavailable_as_error
from worker.store.pages import milliseconds

MOST: Final = 10_000
LONGEST: Final = 4096  # bytes of arguments; more of them are cut, for the stream is bounded by entries

_encode: Final = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Done:
    """``at`` is server ms, ``who`` login name and host, ``what`` the command, ``count`` how many things it changed."""

    id: str
    at: int
    who: str
    what: str
    args: Mapping[str, Any]
    count: int


def record(
    client: redis.Redis,
    prefix: str,
    *,
    who: str,
    what: str,
    args: Mapping[str, Any],
    count: int,
    instead_of: str | None = None,
) -> str:
    """Write down what was done; the record's id. Raises ``StoreUnavailable``.

    A command that takes long records first what it is about to do, and puts what it did ``instead_of`` that record: so
    one that was killed half way has left its record too.
    """
    text = _encode(args)
    if len(text) > LONGEST:
        text = _encode({"cut": text[: LONGEST // 2].decode(errors="ignore")})
    fields: dict[Any, Any] = {"who": who, "what": what, "args": text, "count": count}
    with unavailable_as_error():
        pipe = client.pipeline(transaction=True)
        if instead_of is not None:
            pipe.xdel(keys.actions(prefix), instead_of)
        pipe.xadd(keys.actions(prefix), fields, maxlen=MOST, approximate=True)
        entry: Any = pipe.execute()[-1]
    return str(entry.decode())


def recent(client: redis.Redis, prefix: str, limit: int) -> Sequence[Done]:
    """The newest records first, at most ``limit``. Raises ``StoreUnavailable``."""
    with unavailable_as_error():
        answer: Any = client.xrevrange(keys.actions(prefix), count=limit)
    return [_done(entry.decode(), fields) for entry, fields in answer]


def _done(entry: str, fields: Mapping[bytes, bytes]) -> Done:
    return Done(
        id=entry,
        at=milliseconds(entry),
        who=fields[b"who"].decode(),
        what=fields[b"what"].decode(),
        args=msgspec.json.decode(fields[b"args"]),
        count=int(fields[b"count"]),
    )
