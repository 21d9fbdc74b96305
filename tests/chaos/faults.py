"""Breaks a cluster as a schedule says, and mends it again.

A fault is a function from (cluster, step) to what it has done: to which processes, and how to undo it. The kinds are
those of schedule.py, and a test compares the two.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.chaos.cluster import Cluster
from tests.chaos.kept import Kept, children, send
from tests.chaos.other_code import other_code
from tests.chaos.schedule import Step
from tests.proxy import Proxy

QUEUE_PREFIX: Final = "handoff:broker:"
BELLS: Final = 200  # doubled doorbells at once


class Done(NamedTuple):
    """What a fault has done. ``pids``: to whom, none is everybody; ``undo`` ends it."""

    what: str = ""
    pids: tuple[int, ...] = ()
    undo: Callable[[], object] | None = None


class Nothing(Exception):
    """There was nothing to break: the process is away already."""


def _worker(cluster: Cluster, step: Step) -> Kept:
    return cluster.workers[step.target % len(cluster.workers)]


def _ingress(cluster: Cluster, step: Step) -> Kept:
    return cluster.ingresses[step.target % len(cluster.ingresses)]


def _process(cluster: Cluster, step: Step) -> Kept:
    return [*cluster.workers, *cluster.ingresses][step.target]


def _signalled(kept: Kept, number: int, again: int | None = None) -> Done:
    pids = kept.signal(number)
    if not pids:
        raise Nothing
    # A stopped main process leaves its children at work: nothing has happened to them.
    touched = pids if number == signal.SIGKILL or len(pids) == 1 else pids[:1]
    return Done(kept.name, touched, None if again is None else lambda: send(pids[0], again))


def _child(cluster: Cluster, step: Step) -> tuple[str, int]:
    kept = _worker(cluster, step)
    pid = kept.pid
    found = children(pid) if pid is not None else ()
    if not found:
        raise Nothing
    return kept.name, random.Random(step.draw).choice(found)


def kill_worker(cluster: Cluster, step: Step) -> Done:
    return _signalled(_worker(cluster, step), signal.SIGKILL)


def kill_child(cluster: Cluster, step: Step) -> Done:
    name, pid = _child(cluster, step)
    send(pid, signal.SIGKILL)
    return Done(f"{name}/{pid}", (pid,))


def kill_ingress(cluster: Cluster, step: Step) -> Done:
    return _signalled(_ingress(cluster, step), signal.SIGKILL)


def stop_worker(cluster: Cluster, step: Step) -> Done:
    return _signalled(_worker(cluster, step), signal.SIGSTOP, signal.SIGCONT)


def stop_child(cluster: Cluster, step: Step) -> Done:
    name, pid = _child(cluster, step)
    send(pid, signal.SIGSTOP)
    return Done(f"{name}/{pid}", (pid,), lambda: send(pid, signal.SIGCONT))


def stop_ingress(cluster: Cluster, step: Step) -> Done:
    return _signalled(_ingress(cluster, step), signal.SIGSTOP, signal.SIGCONT)


def terminate_worker(cluster: Cluster, step: Step) -> Done:
    return _signalled(_worker(cluster, step), signal.SIGTERM)


def terminate_ingress(cluster: Cluster, step: Step) -> Done:
    return _signalled(_ingress(cluster, step), signal.SIGTERM)


def kill_server(cluster: Cluster, step: Step) -> Done:
    cluster.server.kill()
    return Done("server", undo=cluster.server.start)


def stop_server(cluster: Cluster, step: Step) -> Done:
    cluster.server.signal(signal.SIGSTOP)
    return Done("server", undo=lambda: cluster.server.signal(signal.SIGCONT))


def read_only_server(cluster: Cluster, step: Step) -> Done:
    cluster.server.demote()
    return Done("server", undo=cluster.server.promote)


def full_server(cluster: Cluster, step: Step) -> Done:
    _config(cluster, "maxmemory", 1)
    return Done("server", undo=lambda: _config(cluster, "maxmemory", 0))


def _config(cluster: Cluster, name: str, value: object) -> None:
    with cluster.server.client() as client:
        client.config_set(name, value)


def paused_server(cluster: Cluster, step: Step) -> Done:
    with cluster.server.client() as client:
        client.execute_command("CLIENT", "PAUSE", int(step.lasting * 1000), "ALL")
    return Done("server", undo=lambda: None)  # it goes on by itself


def slow_network(cluster: Cluster, step: Step) -> Done:
    seconds = random.Random(step.draw).uniform(0.02, 0.3)
    for proxy in cluster.proxies.values():
        proxy.delay(seconds)
    return Done(f"by {seconds:.2f} s", undo=lambda: [proxy.delay(0) for proxy in cluster.proxies.values()])


def cut_connections(cluster: Cluster, step: Step) -> Done:
    with cluster.server.client() as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    return Done("of all")


def cut_ones_connections(cluster: Cluster, step: Step) -> Done:
    kept = _process(cluster, step)
    cluster.proxies[kept.name].cut()
    return Done(kept.name, kept.pids)


def half_open_connections(cluster: Cluster, step: Step) -> Done:
    for proxy in cluster.proxies.values():
        proxy.black_hole_live()
    return Done("of all", undo=lambda: [proxy.bury() for proxy in cluster.proxies.values()])


def half_open_connections_of_one(cluster: Cluster, step: Step) -> Done:
    kept = _process(cluster, step)
    proxy = cluster.proxies[kept.name]
    proxy.black_hole_live()
    return Done(kept.name, kept.pids, proxy.bury)


def black_hole(cluster: Cluster, step: Step) -> Done:
    for proxy in cluster.proxies.values():
        proxy.black_hole_all()
    return Done("for all", undo=lambda: [_whole(proxy) for proxy in cluster.proxies.values()])


def black_hole_for_one(cluster: Cluster, step: Step) -> Done:
    kept = _process(cluster, step)
    proxy = cluster.proxies[kept.name]
    proxy.black_hole_all()
    return Done(kept.name, kept.pids, lambda: _whole(proxy))


def _whole(proxy: Proxy) -> None:
    proxy.heal()
    proxy.bury()  # or an idle connection would be found dead minutes later, and repeats would have no fault beside them


def lost_bells(cluster: Cluster, step: Step) -> Done:
    with cluster.server.client() as client:
        queues = [key for key in client.keys(f"{QUEUE_PREFIX}*") if client.type(key) == b"list"]
        lost = sum(client.llen(key) for key in queues)
        if queues:
            client.delete(*queues)
    return Done(f"{lost} of them")


def doubled_bells(cluster: Cluster, step: Step) -> Done:
    """Many bells for the same things: the sequencers' and the runners', in all partitions."""
    from tests.chaos.terms import SLOW_QUEUE, TERMS
    from worker.doorbell import DELIVER_QUEUE, Doorbell

    bell, settings = Doorbell(cluster.settings), cluster.settings
    try:
        for number in range(BELLS // (len(TERMS) + 1)):
            partition = number % (settings.partitions or 1)
            bell.ring_sequencer(partition)
            for terms in TERMS:
                bell.ring_runner(terms.name, SLOW_QUEUE if terms.name == "slow" else DELIVER_QUEUE, partition)
    finally:
        bell.close()
    return Done(f"{BELLS} of them")


def wrong_clock(cluster: Cluster, step: Step) -> Done:
    """A worker that is started again with a clock that is minutes off."""
    rng = random.Random(step.draw)
    minutes = rng.choice([-1, 1]) * rng.uniform(2, 20)
    kept = _worker(cluster, step)
    number = step.target % len(cluster.workers)
    before = kept.command
    kept.command = cluster.worker_command(number, clock=minutes * 60)
    return _replaced(kept, f"{kept.name} by {minutes:.0f} min", lambda: setattr(kept, "command", before))


def other_version(cluster: Cluster, step: Step) -> Done:
    """A worker that runs other code beside the others, as in the middle of an upgrade."""
    kept = _worker(cluster, step)
    before = kept.env
    kept.env = cluster.environment(kept.name, code=other_code(cluster.folder))
    return _replaced(kept, kept.name, lambda: setattr(kept, "env", before))


def _replaced(kept: Kept, what: str, restore: Callable[[], None]) -> Done:
    pids = kept.signal(signal.SIGKILL)

    def undo() -> tuple[int, ...]:
        restore()
        return kept.signal(signal.SIGKILL)  # others by now, and their calls are excused as well

    return Done(what, pids, undo)


FAULTS: Final[dict[str, Callable[[Cluster, Step], Done]]] = {
    "kill worker": kill_worker,
    "kill child": kill_child,
    "kill ingress": kill_ingress,
    "stop worker": stop_worker,
    "stop child": stop_child,
    "stop ingress": stop_ingress,
    "terminate worker": terminate_worker,
    "terminate ingress": terminate_ingress,
    "kill server": kill_server,
    "stop server": stop_server,
    "read-only server": read_only_server,
    "full server": full_server,
    "paused server": paused_server,
    "slow network": slow_network,
    "cut connections": cut_connections,
    "cut one's connections": cut_ones_connections,
    "half-open connections": half_open_connections,
    "half-open connections of one": half_open_connections_of_one,
    "black hole": black_hole,
    "black hole for one": black_hole_for_one,
    "lost bells": lost_bells,
    "doubled bells": doubled_bells,
    "wrong clock": wrong_clock,
    "other code": other_version,
}
