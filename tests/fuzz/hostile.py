"""Bodies that are nearly, or not at all, what the provider sends: its own samples, put together wrong.

JSON is written here by hand, for no library writes the half of this: doubled keys, NaN, halves of surrogate pairs,
bytes that are no UTF-8, nesting without end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

Path_ = tuple[str | int, ...]

SAMPLES = Path(__file__).parents[1] / "data" / "events"
V1 = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))]
V1_OTHER = {"id": "e7", "seq": 7, "teamId": "t1", "type": "thread.typing", "version": "1.0", "data": {"threadId": "x"}}
V2 = {
    "id": "evt2",
    "seq": 3,
    "type": "contact.assigneeChanged",
    "apiVersion": "2",
    "createdAt": "2026-03-01T12:00:00.000Z",
    "object": {"type": "contact", "id": "c1", "url": "/contacts/c1"},
    "data": {"assigneeId": "m1"},
}
LEGACY = {
    "event": "targetReplied",
    "platform": "twitter",
    "timestamp": "2026-03-01T12:00:00Z",
    "data": {"team": {"id": "t1"}, "message": {"content": "hi"}, "thread": {"id": "x"}},
}
DOCUMENTS: list[dict[str, Any]] = [*V1, V1_OTHER, V2, LEGACY]

NASTY_IDS = [
    *("", " ", "a b", "a:b", "a%3Ab", "a%253Ab", "{p01}", "}{", "{}", "*", "[a-z]", "?", "\\", "%", "%%d", "-", "+inf"),
    *("\0", "nul\0nul", "\n", "\r\n", "\t", "é✓", "\U0001f600", "\u202e", "\ufeff", "\ufffd", "0-0", "=", "+[", "null"),
    *("$", "^", "(", ".*", "'; --", "x" * 1024),
]
"""Ids that mean something to somebody: to a key, a glob, a pattern of Lua, a number, a log."""


class Raw(NamedTuple):
    """A value as it is to stand in the body."""

    text: bytes


class Twice(NamedTuple):
    """A key that is there twice, with these values."""

    first: Any
    second: Any


VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**53 - 1, 2**53, 2**63, 2**64, 10**30, -(2**53), 0.0, 1.0, 1.5, -0.0, 1e300),
    *([], {}, [[]], {"id": "x"}, {"assigneeId": 5}, ["x"] * 50, {"": ""}, {"prospect": None}),
    *(
        Raw(text)
        for text in (b"NaN", b"-Infinity", b"1e999", b"-0", b"01", b"1.", b".5", b"+1", b"9" * 400, b"9" * 5000)
    ),
    *(
        Raw(text)
        for text in (b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"a\\nb"', b'"\\x"')
    ),
    *(
        Raw(text)
        for text in (b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"a\nb"', b'"\x00"', b"'x'", b"undefined", b"")
    ),
    *(Raw(b"[" * depth + b"]" * depth) for depth in (100, 999, 1100, 20_000)),
    *(Raw(b'{"a":' * depth + b"1" + b"}" * depth) for depth in (150, 1100)),
    *(
        "x" * 1024,
        "x" * 1025,
        "é" * 1025,
        "x" * 100_000,
        "2026-13-45",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00+14:00",
    ),
    *("prospect.assigneeChanged", "thread.assigned", "contact.assigneeChanged", "1", "NaN"),
    *NASTY_IDS,
]


def dumped(value: Any) -> bytes:
    """``value`` as JSON, and what is no JSON in it as it is."""
    match value:
        case Raw(text):
            return text
        case dict():
            pairs = [
                json.dumps(key).encode() + b":" + dumped(one)
                for key, item in value.items()
                for one in (item if isinstance(item, Twice) else (item,))
            ]
            return b"{" + b",".join(pairs) + b"}"
        case list():
            return b"[" + b",".join(map(dumped, value)) + b"]"
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def paths_in(value: Any, here: Path_ = ()) -> list[Path_]:
    """Where something can be put in place of what is there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in inside for path in paths_in(item, (*here, key)))]


def changed(value: Any, path: Path_, how: str, new: Any) -> Any:
    """A copy of ``value`` in which what is at ``path`` is set, dropped or there twice."""
    if not path:
        return new if how == "set" else value
    copy = dict(value) if isinstance(value, dict) else list(value)
    key: Any = path[0]
    if len(path) > 1:
        copy[key] = changed(copy[key], path[1:], how, new)
    elif how == "drop":
        del copy[key]
    elif how == "twice" and isinstance(copy, dict):
        there = copy[key]
        copy[key] = Twice(there.second if isinstance(there, Twice) else there, new)
    else:
        copy[key] = new
    return copy


values = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(NASTY_IDS),
    st.text(max_size=20),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=8),
)
# Most of what is looked at lies near the top: there half of the changes go.
_TOP = [
    ("id",),
    ("seq",),
    ("type",),
    ("teamId",),
    ("timestamp",),
    ("createdAt",),
    ("object",),
    ("data",),
    ("apiVersion",),
]


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A sample of any version with up to four things wrong in it."""
    document: Any = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(0, 4))):
        if not isinstance(document, dict):
            break
        plain = paths_in(document)
        near = [path for path in _TOP if path in plain]
        path = draw(st.sampled_from(near if near and draw(st.booleans()) else plain))
        document = changed(document, path, draw(st.sampled_from(["set", "set", "drop", "twice"])), draw(values))
    return dumped(document)


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    body = draw(documents())
    at = draw(st.integers(0, max(0, len(body) - 1)))
    match draw(st.integers(0, 8)):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + draw(st.binary(min_size=1, max_size=4)) + body[at + 1 :]
        case 2:
            return b"\xef\xbb\xbf" + body
        case 3:
            return body.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-16-le"])))
        case 4:
            return body + draw(st.sampled_from([b"}", b"\0", b" ", body, b"\n\n", b","]))
        case 5:
            return b" \n\t\r" * draw(st.integers(1, 1000)) + body
        case 6:
            return body * draw(st.sampled_from([2, 20]))
        case 7:
            return draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.sampled_from([1, 1000, 100_000]))
    return body.replace(b"e", b"\\u0065")


bodies = st.one_of(documents(), documents(), _spoilt(), st.binary(max_size=200))
"""Anything that may come in, most of it close to what the provider sends."""
