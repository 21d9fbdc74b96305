"""The whole road in one process: deliveries in, the real sequencer and runner on a real server, calls and letters out.

What a test gets as the fixture ``handoff``. Nothing runs by itself: ``run`` goes on until there is nothing left to do,
and what would be due later, another attempt or a gap that is given up, is due at once.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import ModuleType
from typing import Any, Final

import redis
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from worker.api import registered
from worker.core.events import Event
from worker.core.handlers import HandlerSpec
from worker.doorbell import Carried
from worker.errors import ConfigurationError
from worker.runtime.keeper import Keeper
from worker.runtime.process import LONGEST_CALL, Process
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.settings import Settings
from worker.store import ledger
from worker.store.client import connect
from worker.store.dead import DeadFilter, list_dead
from worker.store.keys import PartitionKeys
from worker.store.pages import Window
from worker.store.quarantine import list_quarantine
from worker.store.scripts import Scripts
from worker.testing.calls import Call, Handler, Subject, observed, spec_of
from worker.testing.timer import timer_kept

STILL: Final = 50  # rounds in which nothing happens, after which nothing will
MOST: Final = 100_000  # dead letters and the like that are shown

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Dead:
    """A job that was given up: as ``handoff dead list`` shows it. ``text`` is what the error said."""

    handler: str
    event_id: str | None
    attempts: int
    error: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandlerStatus:
    """What became of one handler's jobs: ``routed`` is the sum of the others."""

    routed: int
    done: int
    discarded: int
    conflated: int
    dead: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Status:
    """What became of what was delivered: ``accepted`` is the sum of duplicates, quarantined, released, held and unread.

    ``reasons`` are those for which deliveries were quarantined, ``blocked`` the lanes that wait for a person, as
    (handler, lane)."""

    accepted: int
    unread: int
    held: int
    duplicates: int
    quarantined: int
    released: int
    late: int
    stale: int
    handlers: Mapping[str, HandlerStatus]
    reasons: Sequence[str]
    blocked: Sequence[tuple[str, str]]


class Crash(BaseException):
    """The process that made a call dies after it, before anybody has written that it was made."""


class _Given(Settings):
    """Settings that are what a test says, whatever the environment is."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        *_others: Any,
        **_named: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Handoff:
    """An installation of a test's own on the server at ``url``: empty, with one partition.

    ``calls`` has every call that was made, oldest first.
    """

    def __init__(self, url: str) -> None:
        self.calls: list[Call] = []
        self.crash: Callable[[Call], None] | None = None
        self._keeper = Keeper()
        self._used: list[HandlerSpec] = []
        prefix = f"test-{os.getpid()}-{next(_numbers)}"
        self._settings = _Given(redis_url=url, prefix=prefix, partitions=1, gap_wait=0.0)
        self._client: redis.Redis = connect(self._settings)
        self._scripts = Scripts(self._client)
        self._keys = PartitionKeys(prefix, 0)

    def use(self, *handlers: Handler | ModuleType) -> None:
        """Have these handlers and no others: names, functions, or modules with ``@handler`` in them. Without it, those
        of every module that was imported so far."""
        self._used = []
        for handler in handlers:
            if isinstance(handler, ModuleType):
                found = [spec for spec in registered().values() if spec.function.__module__ == handler.__name__]
                if not found:
                    raise ConfigurationError("handoff.use", f"{handler.__name__} defines no handler")
                self._used += found
            else:
                self._used.append(spec_of(handler))

    def deliver(self, *deliveries: Subject | bytes | Mapping[str, Any]) -> None:
        """Accept deliveries, as the ingress does once it has checked the signature: events or changes that were built,
        raw bodies, or documents. Of a change only its event counts: who owned the prospect is worked out."""
        pipe = self._client.pipeline(transaction=False)
        for delivery in deliveries:
            body, team = _body(delivery)
            pipe.xadd(self._keys.inbox, {"b": body} if team is None else {"b": body, "t": team})
        pipe.execute()

    def run(self) -> list[Call]:
        """Work until nothing is left to do; the calls that were made.

        Raises ``AssertionError`` when there is work left and none is done, as when a call hangs.
        """
        before = len(self.calls)
        process = self._process()
        still, seen = 0, (-1, -1)
        with timer_kept():
            while still < STILL:
                read = Sequencer(process, 0).run()
                due = sum([self._hasten(name) for name in process.registry])
                if not read and not due and not self._client.zcard(self._keys.gaps):
                    return self.calls[before:]
                for spec in process.registry.values():
                    try:
                        Runner(process, spec, 0).run()
                    except Crash:
                        process = self._process()
                        break
                    process.lingering.wait(LONGEST_CALL)
                still, seen = (still + 1 if (len(self.calls), due) == seen else 0), (len(self.calls), due)
        raise AssertionError(f"there is work left that nobody can do: {self.status}")

    @property
    def dead(self) -> list[Dead]:
        """The dead letters, oldest first."""
        found = list_dead(self._client, [self._keys], DeadFilter(), Window(newest_first=False), MOST).records
        return [Dead(each.handler, each.event_id, each.attempts, each.error, each.text) for each in found]

    @property
    def status(self) -> Status:
        """What became of everything, counted. Raises ``AssertionError`` if the books do not add up."""
        names = list(self._registry())
        books = ledger.take(self._scripts, self._keys, names)
        count = books.ledger.get
        assert (books.drift, books.stream_drift) == (0, 0), books
        assert not any(each.drift for each in books.handlers.values()), books
        quarantined = list_quarantine(self._client, [self._keys], Window(newest_first=False), MOST).records
        blocked: list[tuple[str, str]] = []
        for name in names:
            lanes: Any = self._client.hkeys(self._keys.blocked(name))
            blocked += ((name, lane.decode()) for lane in sorted(lanes))
        return Status(
            accepted=books.accepted,
            unread=books.unread,
            held=books.held,
            duplicates=count("duplicates", 0),
            quarantined=count("quarantined", 0),
            released=count("released", 0),
            late=count("late", 0),
            stale=count("stale", 0),
            handlers={
                name: HandlerStatus(each.routed, each.done, each.discarded, each.conflated, each.dead, each.waiting)
                for name, each in books.handlers.items()
            },
            reasons=[each.reason for each in quarantined],
            blocked=blocked,
        )

    def clear(self) -> None:
        """Begin anew: no event was ever seen, no call was made. The handlers stay."""
        self._wipe()
        self.calls.clear()

    def close(self) -> None:
        """Take everything off the server, and end the connection."""
        self._wipe()
        self._client.close()

    def _wipe(self) -> None:
        keys = list(self._client.scan_iter(match=f"{self._settings.prefix}:*", count=1000))
        for start in range(0, len(keys), 1000):
            self._client.delete(*keys[start : start + 1000])

    def _registry(self) -> dict[str, HandlerSpec]:
        found = self._used or list(registered().values())
        if not found:
            raise ConfigurationError("handoff", "knows no handler", "import your module, or name it: handoff.use(...)")
        return {spec.name: observed(spec, self.calls, self.crash) for spec in found}

    def _process(self) -> Process:
        return Process(
            settings=self._settings,
            registry=self._registry(),
            client=self._client,
            scripts=self._scripts,
            bells=_Silent(),
            keeper=self._keeper,
        )

    def _hasten(self, handler: str) -> int:
        """Let the time come for whatever waits: other attempts, and the ends of dead processes' leases."""
        ready = self._keys.ready(handler)
        lanes: Any = self._client.zrange(ready, 0, -1, withscores=True)
        due = {lane: 1 for lane, when in lanes if when != inf}
        if due:
            self._client.zadd(ready, due)
        return len(due)


class _Silent:
    """Bells that nobody needs: ``run`` looks at everything."""

    carried: Carried | None = None

    def sequencer(self, partition: int, *, delay: float = 0.0) -> None: ...

    def runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None: ...

    def runners(self, handlers: Iterable[HandlerSpec], partition: int) -> None: ...


def _body(delivery: Subject | bytes | Mapping[str, Any]) -> tuple[bytes, str | None]:
    """The body, and the team if its URL has to say it."""
    if isinstance(delivery, bytes):
        return delivery, None
    if isinstance(delivery, Mapping):
        return json.dumps(delivery, ensure_ascii=False, separators=(",", ":")).encode(), None
    event = delivery if isinstance(delivery, Event) else delivery.event
    return event.raw, None if event.document.get("teamId") else event.team_id
