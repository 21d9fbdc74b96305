"""Doorbells as they lie in the lists of a Redis broker, each a whole message of Celery's, ready to be pushed.

All bells of a task are the same message but for an id and a partition. kombu takes a tenth of a millisecond to make
one, and three times that in a process that was idle. So it makes one of each task, once, by the code that it always
runs, and what differs is filled in. A test holds it to what kombu itself sends (tests/integration/test_messages.py).

A bell has no priority, so its list is the queue's own, without a suffix, whatever ``priority_steps`` are.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import uuid4

from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.transport import virtual
from kombu.utils.json import dumps

_ID, _TAG, _BODY, _ETA = (uuid4().hex for _ in range(4))  # by chance, so that no queue is called the same
_HEADERS: Final = {"id": _ID, "eta": _ETA}
_SLOT: Final = re.compile(f"({_ID}|{_TAG}|{_BODY}|{_ETA})")


class Bell(NamedTuple):
    """A call of ``task``, which ``queue`` carries, with a partition, ``delay`` seconds from now."""

    queue: str
    task: str
    partition: int
    delay: float = 0.0

    def headers(self) -> dict[str, str]:
        """Celery's message protocol 2 (docs.celeryq.dev, "Message Protocol"): what a task needs to be run."""
        headers = {"lang": "py", "task": self.task, "id": str(uuid4())}
        if self.delay > 0:
            headers["eta"] = self.eta()
        return headers

    def eta(self) -> str:
        return (datetime.now(UTC) + timedelta(seconds=self.delay)).isoformat()


def publish(producer: Producer, bell: Bell, headers: dict[str, str] | None = None) -> None:
    """Send a bell through kombu, which knows every broker."""
    producer.publish(
        [[bell.partition], {}, {}],
        exchange="",
        routing_key=bell.queue,
        serializer="json",
        headers=headers or bell.headers(),
        delivery_mode="transient",
        retry=False,
    )


class Messages:
    """The messages of one process, as bytes. ``of`` may be called from any thread."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str, bool], list[str]] = {}

    def of(self, bell: Bell, ids: tuple[str, str] | None = None) -> bytes:
        """``ids`` are the task's and the message's: texts that no other message has, or slots that are to be filled."""
        kind = bell.queue, bell.task, bell.delay > 0
        parts = self._parts.get(kind)
        if parts is None:
            parts = self._parts[kind] = _SLOT.split(_made_by_kombu(bell))
        made = parts.copy()
        words = dict(zip((_ID, _TAG), ids or (str(uuid4()), str(uuid4())), strict=True))
        words[_BODY] = b64encode(b"[[%d], {}, {}]" % bell.partition).decode()
        words[_ETA] = bell.eta() if bell.delay > 0 else ""
        made[1::2] = [words[slot] for slot in parts[1::2]]
        return "".join(made).encode()


class _Channel(virtual.Channel):
    """Keeps what it is to send."""

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:  # noqa: ARG002 - kombu's signature
        self.message = message


class _Transport(virtual.Transport):
    Channel = _Channel


def _made_by_kombu(bell: Bell) -> str:
    """The message of such a bell, with slots for what is another in each."""
    channel = Connection(transport=_Transport).channel()
    headers = bell.headers()
    publish(Producer(channel), bell, headers | {name: slot for name, slot in _HEADERS.items() if name in headers})
    message = channel.message
    message["body"] = _BODY
    message["properties"]["delivery_tag"] = _TAG
    made: str = dumps(message)
    return made
