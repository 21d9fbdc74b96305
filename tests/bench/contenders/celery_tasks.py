"""Celery with one task an event: what most people write, and what they write next, when order begins to matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery import Celery

from tests import processes
from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.bench.contenders.celery_app import NEXT, TUNED_VARIABLE, URL_VARIABLE, WARMED, broker_options
from tests.bench.contenders.handoff import HIDDEN, PROCFILE_FLAGS, ROOT
from tests.processes import Process, until
from worker.doorbell import transport_options
from worker.settings import Settings

WARMING: Final = 16  # tasks, so that both processes get some
_published: dict[str, list[bytes]] = {}


@dataclass
class CeleryTasks:
    """``task`` is run for every delivery. ``tuned``: with Handoff's transport options and worker flags, else Celery's
    defaults as they come, but for the log level: at INFO Celery writes two lines a task."""

    name: str
    title: str
    task: str
    tuned: bool
    orders: bool = True

    @property
    def note(self) -> str:
        order = "lock, sorted set, retries" if self.orders else "SET NX, no order"
        return f"{order}; {'ack_emulation off' if self.tuned else 'default settings'}"

    def why_not(self) -> str | None:
        return None

    def preload(self, arena: Arena) -> None:
        messages = _published.get(self.task) or self._publish(arena)
        with arena.client.pipeline(transaction=False) as pipe:
            # kombu pushes left and pops right; this list goes the way LRANGE gave it.
            for start in range(0, len(messages), 500):
                pipe.rpush(HIDDEN + self._queue(arena), *messages[start : start + 500])
            if self.orders:
                pipe.mset({NEXT + team: seqs[0] for team, seqs in arena.workload.expected.items()})
            pipe.execute()

    def start(self, arena: Arena) -> list[Process]:
        flags = PROCFILE_FLAGS[1:] if self.tuned else ()
        command = processes.python("celery", "-A", "tests.bench.contenders.celery_app", "worker", "-c", "2")
        environment = {URL_VARIABLE: arena.url, TUNED_VARIABLE: "1" if self.tuned else "", "PYTHONPATH": str(ROOT)}
        worker = processes.start([*command, "--loglevel=warning", *flags], environment, ROOT)
        try:
            arena.wait_for_blocked(worker, "brpop")
            with self._app(arena) as app:
                for _ in range(WARMING):
                    app.send_task("bench.warm")
            until(lambda: int(arena.client.get(WARMED) or 0) >= WARMING, "the workers are warm")
            arena.wait_for_blocked(worker, "brpop")
        except BaseException:
            worker.kill()
            raise
        return [worker]

    def release(self, arena: Arena) -> None:
        arena.client.rename(HIDDEN + self._queue(arena), self._queue(arena))

    def done(self, arena: Arena) -> int:
        return arena.count_handled()

    def commands_of_done(self, arena: Arena) -> int:
        return 1 + len(arena.workload.expected)

    def verdict(self, arena: Arena) -> Verdict | None:
        return check(arena.workload.expected, arena.handled())

    def _publish(self, arena: Arena) -> list[bytes]:
        """Let Celery make the messages, once; later rounds get the same ones."""
        with self._app(arena) as app, app.producer_or_acquire() as producer:
            for delivery in arena.workload.deliveries:
                app.send_task(self.task, (delivery.body.decode(),), producer=producer, retry=False)
        messages: Any = arena.client.lrange(self._queue(arena), 0, -1)
        arena.client.delete(self._queue(arena))
        return _published.setdefault(self.task, messages)

    def _queue(self, arena: Arena) -> str:
        prefix = transport_options(Settings(redis_url=arena.url))["global_keyprefix"] if self.tuned else ""
        return f"{prefix}celery"

    def _app(self, arena: Arena) -> Celery:
        return Celery("sender", broker=arena.url, set_as_current=False, **broker_options(arena.url, self.tuned))
