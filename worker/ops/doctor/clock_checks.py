"""Do the clocks agree?

Leases and due times are by the server's clock alone. What is not: the ingress judges the age of signatures by its own,
and its tolerance for the future is 300 s (PROVIDER.md 1); workers ring for later by theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level

CHECK: Final = "clock"
WRONG: Final = 30_000.0  # ms: a tenth of what makes deliveries be refused
OFF: Final = 2_000.0  # ms: time-outs and log lines of two machines can't be compared any more
_REMEDY: Final = "run NTP (chrony, systemd-timesyncd) on both machines"


def server(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        if node.clock is not None:
            what = f"this machine's clock is {_apart(node.clock.ahead)} the server's"
            yield _judge(node.clock.certain, what, node.address)


def workers(facts: Facts) -> Iterable[Finding]:
    for worker in facts.installed.beating if facts.installed is not None else ():
        if abs(worker.ahead) >= OFF:
            what = f"its clock is {_apart(worker.ahead)} the server's"
            yield _judge(abs(worker.ahead), what, worker.name)


def _judge(apart: float, what: str, where: str) -> Finding:
    if apart >= WRONG:
        why = "from five minutes on, deliveries with right signatures are refused as stale or from the future"
        return Finding(Level.UNSAFE, CHECK, what, why, _REMEDY, where)
    if apart >= OFF:
        return Finding(Level.WARN, CHECK, what, "delayed doorbells ring at the wrong time", _REMEDY, where)
    return Finding(Level.OK, CHECK, what, where=where)


def _apart(ahead: float) -> str:
    amount = f"{abs(ahead) / 1000:,.1f} s" if abs(ahead) >= 1000 else f"{abs(ahead):.0f} ms"
    return f"{amount} {'ahead of' if ahead > 0 else 'behind'}"
