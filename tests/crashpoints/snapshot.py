"""Everything that is stored, written so that two runs of one scenario give the same.

Times become ``T``, or ``due`` and ``later`` where that matters; ids of entries become their place; tokens of processes
become ``X``. What is left is everything that the product decides by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import redis

from worker.store.records import decode_lateness

ENTRY: Final = re.compile(r"\b1\d{12}-\d+\b")
TIME: Final = re.compile(r"\b1\d{12}(\.\d+)?\b")
TOKEN: Final = re.compile(r'"probe":"[0-9a-f]+"')
REPLAY: Final = re.compile(r"-\d{8}-\d{6}-\d{3}\b")
TURN: Final = 1e12  # scores of ready below it are turns, not times

READ: Final = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XRANGE", "-", "+"),
}


def snapshot(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """Key, without the prefix -> what it holds. ``client`` is nobody's of the product, and answers in bytes."""
    bells = f"{prefix}:broker:".encode()  # may be lost or doubled
    names = sorted(name for name in client.scan_iter(match=f"{prefix}:*", count=10_000) if not name.startswith(bells))
    pipe: Any = client.pipeline(transaction=True)
    pipe.time()
    for name in names:
        pipe.type(name)
    (seconds, micros), *kinds = pipe.execute()
    now = seconds * 1000 + micros // 1000
    pipe = client.pipeline(transaction=True)
    for name, kind in zip(names, kinds, strict=True):
        command, *args = READ[kind]
        pipe.execute_command(command, name, *args)
    found = dict(zip((name.decode(errors="surrogateescape") for name in names), pipe.execute(), strict=True))
    return _Writer(prefix, now, found).written()


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The keys in which two states differ, and what is in each; empty if they are the same."""
    return "\n".join(
        f"{name}: {found.get(name)}, not {wanted.get(name)}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    )


class _Writer:
    def __init__(self, prefix: str, now: int, found: Mapping[str, Any]) -> None:
        self._prefix = prefix
        self._now = now
        self._found = found
        self._labels: dict[str, str] = {}

    def written(self) -> dict[str, Any]:
        """Entries of inboxes are known by their place first; then whatever else is named, as it is met."""
        for name, value in self._found.items():
            if name.endswith(":inbox"):
                for entry, fields in value:
                    body = bytes(dict(fields).get(b"b", b"")) if isinstance(fields, dict) else b"".join(fields)
                    self._labels[entry.decode()] = f"<{_first(body)}>"
        return {self._key(name): self._value(name, value) for name, value in sorted(self._found.items())}

    def _key(self, name: str) -> str:
        return re.sub(r"seen:\d+", "seen:N", name[len(self._prefix) + 1 :])

    def _value(self, name: str, value: Any) -> Any:
        key = name[len(self._prefix) + 1 :]
        kind = key.split(":")[1] if key.startswith("{") else key.split(":")[0]
        if key == "sweeper" or kind == "lease":
            return "X"
        if kind == "claims":
            return sorted((self._text(lane), re.sub(r"^[1-9]\d*", "X", text.decode())) for lane, text in pairs(value))
        if kind in ("ready", "gaps", "parked"):
            return {self._text(lane): self._due(float(at)) for lane, at in pairs(value)}
        if kind in ("rate", "turns"):
            return len(value) > 0
        if kind == "state":
            return {
                field.decode(): sum(decode_lateness(text).counts) if field == b"lateness" else self._text(text)
                for field, text in pairs(value)
            }
        if kind in ("dead", "quarantine", "actions", "inbox"):
            return [[self._fields(fields), self._text(entry) if kind == "inbox" else ""] for entry, fields in value]
        if isinstance(value, dict):
            return sorted((self._text(field), self._text(text)) for field, text in value.items())
        if isinstance(value, set):
            return sorted(item.hex() if kind == "seen" else self._text(item) for item in value)
        if isinstance(value, list):
            return [
                [self._text(part) for part in item] if isinstance(item, list) else self._text(item) for item in value
            ]
        return self._text(value)

    def _fields(self, fields: Any) -> list[tuple[str, str]]:
        return [(field.decode(), self._text(text)) for field, text in pairs(fields)]

    def _due(self, at: float) -> str:
        if at == float("inf"):
            return "never"
        return f"turn {at:g}" if 1 < at < TURN else "due" if at <= self._now else "later"

    def _text(self, value: Any) -> str:
        text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
        text = ENTRY.sub(lambda found: self._labels.setdefault(found[0], "<gone>"), text)
        return REPLAY.sub("-X", TOKEN.sub('"probe":"X"', TIME.sub("T", text)))


def pairs(value: Any) -> list[tuple[Any, Any]]:
    """A flat list, a mapping, or pairs, as pairs: RESP2 and RESP3 differ in that."""
    if isinstance(value, dict):
        return list(value.items())
    if value and not isinstance(value[0], list | tuple):
        return list(zip(value[::2], value[1::2], strict=True))
    return [tuple(pair) for pair in value]


def _first(body: bytes) -> str:
    """What an event calls itself."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return repr(body[:20])
    return f"{document['id']} of {document.get('teamId', '?')}" if isinstance(document, dict) else repr(body[:20])
