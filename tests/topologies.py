"""Servers that are several: a cluster, and a primary with replicas behind Sentinels. Each is started from the package's
or the system's binary, on ports of its own, and can be killed, frozen and brought back."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests import access, processes
from tests.processes import until
from tests.servers import binary, free_port

NODE_TIMEOUT = 1000  # milliseconds; a cluster takes a silent node for failed after that
DOWN_AFTER = 1000  # milliseconds; the same for Sentinels
SERVICE = "mymaster"
SLOTS = 16384
BUS = 10_000
_WHAT = ("username", "reason", "object")


@dataclass
class Node:
    """One server. ``client`` is an administrator's, without retries."""

    folder: Path
    command: list[str]
    port: int
    process: processes.Process | None = None
    client: redis.Redis = field(init=False)

    def __post_init__(self) -> None:
        retry = Retry(NoBackoff(), 0)
        own = {"username": "tests", "password": access.PASSWORD}
        self.client = redis.Redis(port=self.port, decode_responses=True, socket_timeout=5, retry=retry, **own)

    def start(self) -> None:
        self.process = processes.start(self.command, {}, self.folder)
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.exceptions.RedisError:
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    @property
    def name(self) -> str:
        """What the cluster calls it."""
        return str(self.client.execute_command("CLUSTER MYID"))


def node(kind: str, folder: Path, *options: str, cluster: bool = False) -> Node:
    """A server with an append-only file that is written at once, not started yet. Nobody gets in without a name."""
    port = _port_of_a_node() if cluster else free_port()
    place = folder / str(port)
    place.mkdir()
    common = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(place), "--save", "", "--appendonly", "yes"]
    common += ["--aclfile", str(access.write_for_several(place, cluster=cluster))]
    common += ["--masteruser", "replica", "--masterauth", access.PASSWORD]
    common += ["--appendfsync", "always", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
    return Node(place, [binary(kind), *common, *options], port)


def _port_of_a_node() -> int:
    """A port that is free together with the one that nodes talk on among themselves, 10,000 above it."""
    while True:
        port = free_port()
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port + BUS))
            return port


def refused(nodes: Sequence[Node]) -> list[str]:
    """What servers have refused their users, of those that are up: who, why, what."""
    found: list[str] = []
    for each in nodes:
        if each.process is not None and each.process.running:
            found += [" ".join(str(entry[name]) for name in _WHAT) for entry in each.client.acl_log()]
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="handoff-nodes-") as name:
        yield Path(name)


@dataclass
class Cluster:
    """``primaries`` as they were at first, each with a third of the slots; ``replicas`` of them, in that order."""

    primaries: list[Node]
    replicas: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.primaries)
        return access.as_user(f"redis+cluster://{hosts}", "tests")

    def slots(self) -> Mapping[int, Node]:
        """First slot of each stretch -> who has it now, as the first node that is up says."""
        by_port = {each.port: each for each in (*self.primaries, *self.replicas)}
        for each in by_port.values():
            if each.process is not None and each.process.running:
                found = each.client.execute_command("CLUSTER SLOTS")
                return {int(first): by_port[int(primary[1])] for first, _, primary, *_ in found}
        raise AssertionError("no node is up")

    def owner(self, key: str) -> Node:
        """Whose a key is."""
        slot, slots = key_slot(key.encode()), self.slots()
        return slots[max(first for first in slots if first <= slot)]

    def move(self, key: str, refusals: int) -> None:
        """Move the slot of ``key`` to another node, with all its keys, while the cluster is in use: when it has refused
        so many scripts for it meanwhile (TRYAGAIN)."""
        move = self.begin_move(key)
        until(lambda: self.refusals() >= refusals, "scripts are refused")
        self.end_move(*move)

    def begin_move(self, key: str) -> tuple[int, Node, Node]:
        """From then on scripts are refused. The slot, and from where to where it moves."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target = next(node for node in self.primaries if node is not source)
        for each in self.primaries:
            each.client.config_resetstat()
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.name)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.name)
        return slot, source, target

    def refusals(self) -> int:
        """How many commands were answered with TRYAGAIN since a slot began to move."""
        found = [each.client.info("errorstats").get("errorstat_TRYAGAIN", {}) for each in self.primaries]
        return sum(int(each.get("count", 0)) for each in found)

    def end_move(self, slot: int, source: Node, target: Node) -> None:
        while keys := source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            who = ("AUTH2", "tests", access.PASSWORD)
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *who, "KEYS", *keys)
        name = target.name
        for each in (target, source, *self.primaries):
            each.client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)


@contextmanager
def cluster(kind: str, *, replicas: bool = False) -> Iterator[Cluster]:
    """Three nodes that have all slots between them; with ``replicas``, one of each."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT)]
        # With one node gone the others serve what is theirs, which is the half of why one has a cluster.
        options += ["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"]
        nodes = [node(kind, folder, *options, cluster=True) for _ in range(6 if replicas else 3)]
        for each in nodes:
            stack.callback(each.kill)
            each.start()
        found = Cluster(nodes[:3], nodes[3:])
        for number, each in enumerate(found.primaries):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            each.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            each.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for each in nodes[1:]:
            nodes[0].client.execute_command("CLUSTER MEET", "127.0.0.1", each.port)
        until(lambda: all(_known(each) == len(nodes) for each in nodes), "all nodes know one another")
        for primary, replica in zip(found.primaries, found.replicas, strict=False):
            replica.client.execute_command("CLUSTER REPLICATE", primary.name)
        until(lambda: all(_state(each) == "ok" for each in nodes), "the cluster serves all slots")
        until(lambda: all(in_step(each) for each in found.replicas), "the replicas are in step")
        yield found


def _known(each: Node) -> int:
    return int(each.client.execute_command("CLUSTER INFO")["cluster_known_nodes"])


def _state(each: Node) -> str:
    return str(each.client.execute_command("CLUSTER INFO")["cluster_state"])


def in_step(each: Node) -> bool:
    """Whether it is a replica that has what its primary has."""
    return each.client.info("replication").get("master_link_status") == "up"


@dataclass
class Sentinels:
    """A primary, its replicas and the Sentinels that watch them."""

    nodes: list[Node]
    watchers: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.watchers)
        own = f"sentinel_username=handoff&sentinel_password={access.PASSWORD}"
        return access.as_user(f"redis+sentinel://{hosts}/{SERVICE}/0?{own}", "tests")

    def primary(self) -> Node:
        """Who it is, as the first Sentinel that is up says."""
        for each in self.watchers:
            if each.process is not None and each.process.running:
                _, port = each.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return next(found for found in self.nodes if found.port == int(port))
        raise AssertionError("no Sentinel is up")

    def fail_over(self) -> None:
        """As an operator asks for it."""
        self.watchers[0].client.execute_command("SENTINEL", "FAILOVER", SERVICE)


@contextmanager
def sentinels(kind: str, *, replicas: int = 1) -> Iterator[Sentinels]:
    """A primary, replicas and three Sentinels, who take a primary for dead after a second of silence."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        nodes = [node(kind, folder)]
        nodes += [node(kind, folder, "--replicaof", f"127.0.0.1 {nodes[0].port}") for _ in range(replicas)]
        for each in nodes:
            stack.callback(each.kill)
            each.start()
        until(lambda: all(in_step(each) for each in nodes[1:]), "the replicas are in step")
        watchers = []
        for _ in range(3):
            port = free_port()
            file = folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n{access.of_a_sentinel()}"
                f"sentinel monitor {SERVICE} 127.0.0.1 {nodes[0].port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
                f"sentinel auth-user {SERVICE} sentinel\nsentinel auth-pass {SERVICE} {access.PASSWORD}\n"
            )
            watcher = Node(folder, [binary(kind), str(file), "--sentinel"], port)
            stack.callback(watcher.kill)
            watcher.start()
            watchers.append(watcher)
        until(lambda: all(_watches(each, replicas) for each in watchers), "the Sentinels know one another")
        yield Sentinels(nodes, watchers)


def _watches(each: Node, replicas: int) -> bool:
    state = each.client.sentinel_master(SERVICE)
    return state["num-other-sentinels"] == 2 and state["num-slaves"] == replicas
