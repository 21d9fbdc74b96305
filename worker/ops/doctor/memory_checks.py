"""Is there memory for what waits, on the server and on its machine?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker.core.backpressure import OPEN
from worker.core.units import size
from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level

CHECK: Final = "memory"
HALF: Final = 0.5  # share of the machine's memory: a rewrite of the file forks, and may need as much again
NEARLY: Final = 0.9
LEAST: Final = 256 * 1024 * 1024  # bytes that the machine should have left


def room(facts: Facts) -> Iterable[Finding]:
    """The server's own bound, and how near it is."""
    for node in facts.asked:
        used = max(0, node.number("used_memory") - node.number("mem_not_counted_for_evict"))
        most, total = node.number("maxmemory"), node.number("total_system_memory")
        share = facts.settings.max_memory
        remedy = "raise maxmemory, or see with `handoff status` what waits"
        if most and used >= most * share:
            what = f"{size(used)} of maxmemory {size(most)} are used, over HANDOFF_MAX_MEMORY ({share:.0%})"
            yield Finding(Level.UNSAFE, CHECK, what, "deliveries are answered 503", remedy, node.address)
        elif most and used >= most * share * OPEN:
            what = f"{size(used)} of maxmemory {size(most)} are used"
            yield Finding(Level.WARN, CHECK, what, "deliveries will soon be answered 503", remedy, node.address)
        elif total and most > total:
            what = f"maxmemory is {size(most)}, and its machine has {size(total)}"
            why = "the kernel ends the server before it refuses anything"
            yield Finding(Level.UNSAFE, CHECK, what, why, _half(total), node.address)
        elif total and used >= total * NEARLY:
            what = f"{size(used)} of its machine's {size(total)} are used"
            why = "the kernel will end the server"
            yield Finding(Level.UNSAFE, CHECK, what, why, "give it more memory, and a maxmemory", node.address)
        elif not most:
            what, why = "maxmemory is 0", "nothing is refused until the kernel ends the server for want of memory"
            yield Finding(Level.WARN, CHECK, what, why, _half(total), node.address)
        else:
            yield Finding(Level.OK, CHECK, f"{size(used)} of maxmemory {size(most)} are used", where=node.address)


def machine(facts: Facts) -> Iterable[Finding]:
    """Of a server on this machine."""
    for node in facts.asked:
        if node.machine is None:
            continue
        used, available = node.number("used_memory"), node.machine.available
        if available is not None and available < max(LEAST, used * HALF):
            what = f"this machine has {size(available)} of memory left, and the server uses {size(used)}"
            why = "a rewrite of the append-only file copies what changes meanwhile, and may not find room for it"
            yield Finding(Level.WARN, CHECK, what, why, "give the machine more memory, or others less", node.address)
        if node.machine.overcommit == 2 or (node.machine.overcommit == 0 and used > LEAST):
            what = f"vm.overcommit_memory is {node.machine.overcommit}"
            why = "the server can't fork when it uses half of the memory, so its file can't be rewritten"
            yield Finding(Level.WARN, CHECK, what, why, "sysctl vm.overcommit_memory=1", node.address)


def _half(total: int) -> str:
    """A directive for a machine with so many bytes."""
    return f"maxmemory {int(total * HALF) >> 20}mb" if total else "maxmemory of half of the machine's memory"
