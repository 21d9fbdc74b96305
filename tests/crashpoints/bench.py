"""An installation of its own for one scenario, in which a process works, dies, and is followed by another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec
import redis

from tests import cli_kit
from tests.crashpoints import calling
from tests.crashpoints.snapshot import snapshot
from tests.store_kit import Partition
from worker.core.breaker import Circuit
from worker.core.handlers import HandlerSpec
from worker.doorbell import Doorbell
from worker.runtime.keeper import Keeper
from worker.runtime.process import Bells, Process
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.settings import Settings
from worker.store import installation
from worker.store.archive import Archive
from worker.store.client import connect
from worker.store.keys import PartitionKeys, control, rate, sweeper
from worker.store.scripts import Scripts

LONG: Final = 600_000  # ms: no lease and no bell runs out by itself, however slow the machine; ``pass_by`` ends them
PARTITION: Final = 0
PARTITIONS: Final = 1
ROUNDS: Final = 200
BELLS_OF_A_CLUSTER: Final = "memory://"

# What depends on how fast the machine is, made the same each time.
STEADY: Final[Mapping[str, Any]] = {
    "worker.store.sequence.LEASE_MS": LONG,
    "worker.store.sequence.BELL_LIFE_MS": LONG,
    "worker.store.lanes.LEASE_MS": LONG,
    "worker.store.lanes.BELL_LIFE_MS": LONG,
    "worker.store.lanes.BODIES_ALONG": 2,
    "worker.store.conflation.SECONDS": 60.0,
    "worker.runtime.sweeper.LEASE_MS": LONG,
    "worker.runtime.sequencer.FIRST_BATCH": 4,
    "worker.runtime.sequencer.MOST_BATCH": 4,
    "worker.runtime.sequencer.SLICE": 60.0,
    "worker.runtime.sequencer.SLOW": 60.0,
    "worker.runtime.runner.SLICE": 60.0,
    "worker.runtime.runner.INLINE_SLICE": 60.0,
    "worker.runtime.executors.SETTLE_EVERY": 60.0,
    "worker.runtime.executors.SETTLE_JOBS": 2,
    "worker.runtime.claiming.FIRST_CLAIM": 4,
    "worker.runtime.claiming.CLAIM_SECONDS": 1e9,
    "worker.runtime.gate.FRESH": 0.0,
    "worker.runtime.keeper.PERIOD": 3600.0,
    "worker.core.retry.LEAST": 0.0,
    "worker.core.breaker.HEARD_MS": LONG,
    "worker.runtime.gate.HEARD_MS": LONG,
}


@dataclass
class Bench:
    """``specs`` are the handlers there are; ``effects`` what they did: (handler, team, seq), in order."""

    url: str
    prefix: str
    specs: Sequence[HandlerSpec]
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    effects: list[tuple[str, str, int]] = field(default_factory=list)
    settings: Settings = field(init=False)
    eye: redis.Redis = field(init=False)
    partition: Partition = field(init=False)

    def __post_init__(self) -> None:
        told: dict[str, Any] = {"archive_events": 0, "partitions": PARTITIONS, "gap_wait": "1h"} | dict(self.options)
        if self.on_a_cluster:
            told["broker_url"] = BELLS_OF_A_CLUSTER
        self.settings = Settings(redis_url=self.url, prefix=self.prefix, **told)
        self.eye = connect(self.settings) if self.on_a_cluster else redis.Redis.from_url(self.url)
        self.partition = Partition(self.settings, self.eye, PartitionKeys(self.prefix, PARTITION))
        installation.fix_partitions(self.eye, self.settings)
        installation.announce_handlers(self.eye, self.settings, [spec.describe() for spec in self.specs])

    @property
    def on_a_cluster(self) -> bool:
        return self.url.startswith("redis+cluster://")

    def process(self) -> Process:
        """What a worker process that has just started has."""
        client = connect(self.settings)
        return Process(
            settings=self.settings,
            registry={spec.name: spec for spec in self.specs},
            client=client,
            scripts=Scripts(client),
            bells=Bells(self.settings),
            keeper=Keeper(),
            claim_sizes={spec.name: 4 for spec in self.specs},
        )

    def deliver(self, *bodies: bytes) -> None:
        """Deliveries, accepted and sequenced as the product does it, and gaps given up at once."""
        self.partition.append(*bodies)
        process = self.process()
        process.settings = self.settings.model_copy(update={"gap_wait": 0.0})
        Sequencer(process, PARTITION).run()

    def handoff(self, *words: str) -> cli_kit.Ran:
        """A command, in this process."""
        environment = {"HANDOFF_REDIS_URL": self.url, "HANDOFF_PREFIX": self.prefix}
        if self.on_a_cluster:
            environment["HANDOFF_BROKER_URL"] = BELLS_OF_A_CLUSTER
        ran = cli_kit.run(*words, folder=self.folder, **environment)
        assert ran.code in (0, 1), ran
        return ran

    def state(self) -> dict[str, Any]:
        return snapshot(self.eye, self.prefix)

    def waiting(self) -> set[tuple[str, str, int]]:
        """Every (handler, team, seq) that has a job."""
        keys, found = self.partition.keys, set()
        for spec in self.specs:
            for lane in self.eye.zrange(keys.ready(spec.name), 0, -1):
                name = lane.decode()
                found |= {(spec.name, name, seq) for seq in self.partition.seqs_in(spec.name, name)}
        return found

    def pass_by(self) -> None:
        """As time would: leases run out, bells are taken for lost, pauses and waits between attempts are over."""
        keys = self.partition.keys
        self._forget(keys.lease, keys.bell, sweeper(self.prefix))
        for spec in self.specs:
            self._forget(keys.runner_bell(spec.name), rate(self.prefix, spec.name))
            self._end_probe(spec.name)
            for lane, at in self.eye.zrange(keys.ready(spec.name), 0, -1, withscores=True):
                self.eye.delete(keys.team_rate(spec.name, lane.decode().split(":")[0]))
                if at != float("inf"):
                    self.eye.zadd(keys.ready(spec.name), {lane: 1})

    def _forget(self, *names: str) -> None:
        for name in names:  # one by one: a cluster may have them in several places
            self.eye.delete(name)

    def open_circuit(self, handler: str, circuit: Circuit) -> None:
        """Write down a circuit, as a process would that found the far side down."""
        key = control(self.prefix, handler)
        version = int(self.eye.hget(key, "version") or 0) + 1
        self.eye.hset(key, mapping={"version": version, "circuit": msgspec.json.encode(circuit)})

    def _end_probe(self, handler: str) -> None:
        text = self.eye.hget(control(self.prefix, handler), "circuit")
        circuit = Circuit() if text is None else msgspec.json.decode(text, type=Circuit)
        if circuit.probe or circuit.until:
            self.open_circuit(handler, msgspec.structs.replace(circuit, lease=1, until=1))

    def go_on(self) -> None:
        """Another process does whatever there is to do, until there is nothing."""
        process = self.process()
        for _ in range(ROUNDS):
            self.pass_by()
            Sequencer(process, PARTITION).run()
            for spec in self.specs:
                Runner(process, spec, PARTITION).run()
            if not self._due():
                Archive(process.client, process.scripts, self.partition.keys, self.settings).trim(0)  # the sweeper does
                process.client.close()
                return
        raise AssertionError(f"there is still something to do: {self.waiting()}")

    def _due(self) -> bool:
        keys = self.partition.keys
        paused = {spec.name for spec in self.specs if self.eye.hexists(control(self.prefix, spec.name), "paused")}
        going = [spec.name for spec in self.specs if spec.name not in paused]
        lanes = [self.eye.zcount(keys.ready(name), "-inf", "(+inf") for name in going]
        cursor = (self.eye.hget(keys.state, "cursor") or b"0-0").decode()
        return any(lanes) or bool(self.eye.xrange(keys.inbox, f"({cursor}", "+", 1))

    def balanced(self) -> None:
        self.partition.balanced(*(spec.name for spec in self.specs))

    def close(self) -> None:
        self.eye.close()


@contextlib.contextmanager
def steady(bench: Bench, **more: Any) -> Iterator[None]:
    """Nothing in here depends on the speed of the machine; what handlers do is noted on the bench."""

    def note(handler: str, subject: Any, attempt: int) -> None:
        bench.effects.append((handler, subject.team_id, subject.seq))

    with contextlib.ExitStack() as stack:
        for name, value in {**STEADY, **more}.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(calling, "sink", note))
        stack.enter_context(mock.patch.object(Doorbell, "ring"))  # there is nobody who would answer
        yield


Act = Callable[[Bench], None]
