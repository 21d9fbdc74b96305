"""What a doorbell looks like (worker/doorbell.py rings them), and what keeps any other message from being one.

A broker is written to by others too: by hand, by another application with the same queue, by somebody who means harm.
Celery trusts the shape of what it reads; an embedded chain, a time limit that is no pair or a body that is no list
ends in its worker's main process, which then ends. So what is no doorbell is told by its shape, before Celery looks,
and of what is one nothing is passed on but what a doorbell needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

LONGEST: Final = 500  # characters of a task's name or id

_KEPT: Final = ("lang", "task", "id", "eta", "traceparent", "tracestate")
"""Headers that are passed on: a doorbell's own, and a trace's (www.w3.org/TR/trace-context)."""


def fault(headers: object, delivery: object, body: object, partitions: int) -> str | None:
    """Why a message is no doorbell, in a few words that quote nothing of it; None if it is one.

    ``headers`` and ``delivery`` are its headers and delivery information, ``body`` what its body says:
    ``[[partition], {}, {...}]``, the last of which may name things as Celery does, but give them no value. There are
    ``partitions`` at most.
    """
    if not isinstance(headers, dict) or not all(isinstance(name, str) for name in headers):
        return "no headers"
    for name in ("task", "id"):
        value = headers.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
            return f"no {name}"
    if not isinstance(delivery, dict):
        return "no delivery information"
    if not _is_time(headers.get("eta")):
        return "a time that is none"
    if not isinstance(body, list | tuple) or len(body) != 3:
        return "a body of another shape"
    args, named, embedded = body
    if not isinstance(args, list | tuple) or len(args) != 1 or named != {}:
        return "other arguments"
    if not isinstance(args[0], int) or isinstance(args[0], bool) or not 0 <= args[0] < partitions:
        return "no partition"
    if embedded is not None and not (isinstance(embedded, dict) and not any(embedded.values())):
        return "more than a doorbell"
    return None


def kept(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a doorbell that mean something: Celery obeys others, and each of the wrong type ends it."""
    return {name: value for name in _KEPT if isinstance(value := headers.get(name), str)}


def _is_time(value: object) -> bool:
    if value is None:
        return True
    try:
        datetime.fromisoformat(value)  # type: ignore[arg-type]  # of anything else it raises TypeError
    except (TypeError, ValueError):
        return False
    return True
