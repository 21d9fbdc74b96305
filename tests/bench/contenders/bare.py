"""One bare Python process: the practical limit of this language on this server, with none of what makes it safe."""

from __future__ import annotations

from tests import processes
from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.bench.contenders import bare_process
from tests.bench.contenders.handoff import HIDDEN, ROOT
from tests.bench.names import LIST
from tests.processes import Process


class Bare:
    name = "bare"
    title = "One bare Python process"
    note = "one Lua call a batch dedups, orders and appends; no Celery, no retries, no leases"

    def why_not(self) -> str | None:
        return None

    def preload(self, arena: Arena) -> None:
        first = {team: seqs[0] for team, seqs in arena.workload.expected.items()}
        arena.client.hset(bare_process.NEXT, mapping=first)  # type: ignore[arg-type]
        with arena.client.pipeline(transaction=False) as pipe:
            for delivery in arena.workload.deliveries:
                pipe.xadd(HIDDEN + bare_process.STREAM, {b"b": delivery.body})
                if len(pipe) >= 500:
                    pipe.execute()
            pipe.execute()

    def start(self, arena: Arena) -> list[Process]:
        command = processes.python("tests.bench.contenders.bare_process", arena.url, LIST)
        worker = processes.start(command, {"PYTHONPATH": str(ROOT)}, ROOT)
        try:
            arena.wait_for_blocked(worker, "xread")
        except BaseException:
            worker.kill()
            raise
        return [worker]

    def release(self, arena: Arena) -> None:
        arena.client.rename(HIDDEN + bare_process.STREAM, bare_process.STREAM)

    def done(self, arena: Arena) -> int:
        return arena.count_handled()

    def commands_of_done(self, arena: Arena) -> int:
        return 1 + len(arena.workload.expected)

    def verdict(self, arena: Arena) -> Verdict | None:
        return check(arena.workload.expected, arena.handled())
