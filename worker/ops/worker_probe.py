"""``handoff doctor --worker``: do the workers of this host, or the one that is named, get anything done?

For supervisors: a container's health check, a probe of Kubernetes. `celery inspect ping` is answered by a worker that
hears nothing; this reads what each worker's watchdog wrote last (store/heartbeats.py), and sees when it wrote nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from worker.ops import tables
from worker.ops.doctor.findings import Finding, Level
from worker.ops.installed import Installed
from worker.store.heartbeats import Heartbeats, Worker

HERE: Final = "here"
"""What stands for the workers of this host."""
_WHY: Final = {
    "deaf": "it takes nothing of what waits for it, and leaves",
    "stuck": "its main loop hangs, and it leaves",
    "unswept": "its sweeper has ended, and it leaves",
    "silent": "it has stopped, hangs, or can't reach the state server",
}


def probe(found: Installed, which: str) -> list[Finding]:
    """A finding for each worker that is meant: those of this host, or whose name, host or process id is ``which``.

    Raises ``StoreUnavailable``.
    """
    everybody = Heartbeats(found.client, found.scripts, found.settings.prefix).read()
    findings = [judged(one) for one in meant(everybody, which, socket.gethostname())]
    if findings:
        return findings
    where = f"on {socket.gethostname()}" if which == HERE else f"called {which}"
    why = "no worker has beaten within a minute: none runs, or it hangs, or it can't reach the state server"
    return [Finding(Level.UNSAFE, "worker", f"no worker {where} is known", why, "start it again")]


def meant(everybody: Iterable[Worker], which: str, host: str) -> list[Worker]:
    """The newest run of each process that is meant, without those of this host whose process is gone."""
    newest: dict[tuple[str, int], Worker] = {}
    for one in sorted(everybody, key=lambda worker: worker.beat.started):
        beat = one.beat
        if which in ((beat.host,) if which == HERE else (beat.name, beat.host, str(beat.pid))) or (
            which == HERE and beat.host == host
        ):
            newest[beat.host, beat.pid] = one
    return [one for one in newest.values() if one.beat.host != host or not one.silent or _lives(one.beat.pid)]


def judged(worker: Worker) -> Finding:
    beat, name = worker.beat, f"{worker.beat.name} (process {worker.beat.pid})"
    if worker.healthy:
        last = None if beat.received_at is None else tables.age(max(0, worker.now - beat.received_at))
        heard = f"{tables.plural(beat.received, 'message')}, the last {last} ago" if last else "no message yet"
        what = f"{worker.state}: {heard}; {beat.busy} of {tables.plural(beat.places, 'place')} taken"
        return Finding(Level.OK, "worker", what, where=name)
    said = tables.age(worker.now - worker.at) if worker.silent else tables.age(round(beat.unheard * 1000))
    return Finding(
        Level.UNSAFE, "worker", f"{worker.state} for {said}", _WHY[worker.state], "start it again, if nobody does", name
    )


def tell(workers: Sequence[Worker]) -> Iterable[str]:
    """What of all workers needs a person, a sentence each."""
    for one in workers:
        if not one.healthy:
            finding = judged(one)
            yield f"worker {finding.where} is {finding.what}: {finding.why}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
