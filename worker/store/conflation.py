"""Compacts claimed lanes before their jobs are begun: reads them, joins what can be joined, writes back what is left.

    claimed ─▶ anything new at its end? ─▶ read a page ─▶ core/conflation.collapse ─▶ lua/conflate ─▶ next page ...

What is left of one page is the beginning of the next, so that a script never rewrites more than HEAD + PAGE jobs, and
whatever ends the process ends it between two lanes that are both right. A job that was joined with all before it says
so (its mark ``c``): a lane that ends with such a one, or begins with enough of them, is not read again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from worker.core.conflation import Waiting, collapse, read
from worker.errors import LeaseLost
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys
from worker.store.scripts import Code, Scripts, Word, owned

PAGE: Final = 512
"""Jobs that one script joins. Of 1,024 it took 6 ms of the server, 10 at most: to write down who needs a body."""

HEAD: Final = 4096
"""Jobs, and bytes of them, that are left of a lane before no more of it is read: with so many prospects there is enough
to do, and each further page would rewrite all of them."""
HEAD_BYTES: Final = 1024 * 1024

SECONDS: Final = 0.25
"""For the lanes of one claim together. It is far below their lease; what is not compacted by then is handed back."""


@dataclass(slots=True)
class Found:
    """A lane as ``claim.lua`` found it: see ``ClaimedLane``. ``texts`` are the claimed jobs, ``writes`` how often we
    wrote it since."""

    lane: str
    attempt: int
    crashed: bool
    careful: bool
    trouble: bytes
    waiting: int
    texts: Sequence[bytes]
    writes: int = 0


class Conflation:
    """For one handler in one partition."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: PartitionKeys, handler: str, lease_ms: int) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._handler = handler
        self._lease_ms = lease_ms

    def compact(self, token: int, found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
        """Of lanes claimed under ``token``: those to go on with, as they are now, and those to be handed back, for lack
        of time. A lane that is empty now, or that we have lost, is in neither. Raises ``StoreUnavailable``."""
        ready: list[Found] = []
        late: list[Found] = []
        tried_in = self._tried([item for item in found if item.waiting > 1])
        end, begun = time.monotonic() + SECONDS, False
        for item in found:
            tried = tried_in.get(item.lane)
            if tried is None:
                ready.append(item)
            elif begun and time.monotonic() >= end:
                late.append(item)
            else:
                begun = True
                try:
                    if self._compact(token, item, tried, end):
                        ready.append(item)
                except LeaseLost:
                    continue
        return ready, late

    def _tried(self, found: Sequence[Found]) -> dict[str, int]:
        """The lanes that have something to compact, and how many of their first jobs may have been begun before."""
        if not found:
            return {}
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=False)
            for item in found:
                key = self._keys.lane(self._handler, item.lane)
                pipe.hget(self._keys.claims(self._handler), item.lane)
                pipe.lindex(key, -1)
                pipe.lindex(key, HEAD // 2)
            answers = iter(pipe.execute())
        tried = {}
        for item, claim, last, middle in zip(found, answers, answers, answers, strict=True):
            if claim is not None and not any(text and read(text).compact for text in (last, middle)):
                failed = item.attempt > 1 or item.crashed or bool(item.trouble)
                tried[item.lane] = max(int(claim.split()[3]), int(failed))
        return tried

    def _compact(self, token: int, item: Found, tried: int, end: float) -> bool:
        """Whether there is anything left, which ``item`` tells then. Raises ``LeaseLost``."""
        claimed, head = len(item.texts), list[Waiting]()
        while True:
            page = [read(text) for text in self._page(item.lane, len(head))]
            if not page:
                return bool(item.texts)
            jobs = head + page
            if all(job.compact for job in page):
                head = jobs  # the work of an earlier claim, on which this one builds
            else:
                collapsed = collapse(jobs, tried=tried)
                if collapsed.vanished and (unsure := self._missed(item.lane, collapsed.vanished)):
                    collapsed = collapse(jobs, tried=tried, unsure=unsure)
                answer = self._write(token, item, jobs, collapsed.kept, claimed)
                if answer is None:
                    return True
                item.writes += 1
                head = [job for _, job in collapsed.kept]
                item.waiting, count, attempt = answer
                if item.waiting == 0:
                    return False
                item.attempt = attempt if claimed > 1 else item.attempt
                item.texts = [job.text.encode(errors="surrogateescape") for job in head[:count]]
            if head and (len(page) < PAGE or _enough(head) or time.monotonic() >= end):
                return True

    def _missed(self, lane: str, prospects: Sequence[str]) -> set[str]:
        """Those of whom a change became a dead letter: nobody else ends any while the lane is ours."""
        team = lane.partition(":")[0]
        with unavailable_as_error():
            client: Any = self._client
            missed = client.smismember(self._keys.missed(self._handler), [f"{team}:{name}" for name in prospects])
        return {name for name, is_missed in zip(prospects, missed, strict=True) if is_missed}

    def _page(self, lane: str, start: int) -> list[bytes]:
        with unavailable_as_error():
            client: Any = self._client
            found: list[bytes] = client.lrange(self._keys.lane(self._handler, lane), start, start + PAGE - 1)
            return found

    def _write(
        self, token: int, item: Found, jobs: Sequence[Waiting], kept: Sequence[tuple[int, Waiting]], claimed: int
    ) -> tuple[int, int, int] | None:
        """Jobs in the lane now, claimed ones, and the attempt; None where it is not what was read."""
        keys, handler, lane = self._keys, self._handler, item.lane
        names = [keys.ready(handler), keys.claims(handler), keys.refs, keys.inbox, keys.ledger, keys.ends]
        last = jobs[-1].text.encode(errors="surrogateescape")
        words: list[Word] = [self._lease_ms, handler, token, lane, len(jobs), last, claimed, item.writes]
        for index, job in kept:
            words += (index + 1, "" if job is jobs[index] else job.text.encode(errors="surrogateescape"))
        left, *more = self._scripts.run("conflate", [*names, keys.lane(handler, lane)], words)
        if left == Code.CHANGED:
            return None
        if left < 0:
            owned(left, f"lane {lane}")
        return left, *more


def _enough(head: Sequence[Waiting]) -> bool:
    return len(head) > HEAD or sum(len(job.text) for job in head) > HEAD_BYTES
