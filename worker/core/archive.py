"""A record of the archive: one released event, as it is kept for replay and for questions about it.

The archive is bounded; its records are in the order of release. A record does not repeat the event, whose body stays in
the inbox as long as the record; it is text with single spaces, so that trim.lua can read what it needs:

    mark handlers released job

``mark`` is what the index knows the event by (``index_mark``), ``handlers`` those that got a job (commas; ``-`` for
none), ``released`` server ms, ``job`` the text of a job for it (core/jobs.py).
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final, NamedTuple

from worker.core import jobs
from worker.core.jobs import Job

LONGEST_MARK: Final = 40  # characters; the provider's ids have 24, a UUID 36


class Record(NamedTuple):
    """One released event. ``job`` is what a handler would get of it, ``text`` how that is written."""

    mark: str
    handlers: Sequence[str]
    released: int
    job: Job
    text: str


def index_mark(event_id: str) -> str:
    """What the index knows an event by: its id, or a digest of one that is long or could be mistaken for two words."""
    plain = event_id.isascii() and event_id.isprintable() and " " not in event_id and event_id[:1] not in {"", "~"}
    if plain and len(event_id) <= LONGEST_MARK:
        return event_id
    digest = hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    return "~" + urlsafe_b64encode(digest).decode()


def encode(event_id: str, handlers: Sequence[str], now: int, job: str) -> str:
    """The record of an event that is released at ``now``; ``job`` is its text, with ``shared`` set."""
    return _text(index_mark(event_id), handlers, now, job)


def text_of(record: Record) -> str:
    """``record`` as it is written."""
    return _text(record.mark, record.handlers, record.released, record.text)


def _text(mark: str, handlers: Sequence[str], released: int, job: str) -> str:
    return f"{mark} {','.join(handlers) or '-'} {released} {job}"


def decode(text: bytes) -> Record:
    """Raises ``ValueError`` for what ``encode`` did not write."""
    mark, handlers, released, job = text.split(b" ", 3)
    names = [] if handlers == b"-" else handlers.decode().split(",")
    return Record(mark.decode(), names, int(released), jobs.decode(job), job.decode())
