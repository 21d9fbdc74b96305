"""The status on one screen."""

from __future__ import annotations

import signal
import threading
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.errors import StoreError
from worker.ops import tables
from worker.ops.installed import Installed, named
from worker.ops.status import COUNTERS, Deliveries, Status, gather

REFRESH: Final = 1.0  # seconds


def watch(found: Installed) -> None:
    """Show the status until interrupted. A server that goes away is said so, and looked for again.

    An interrupt sets a mark: as an exception it would be lost where Python can raise none, in a destructor say.
    """
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        with Live(console=tables.console(), auto_refresh=False, screen=False) as live:
            while not interrupted.is_set():
                live.update(_look(found), refresh=True)
                interrupted.wait(REFRESH)
    finally:
        signal.signal(signal.SIGINT, before)


def _look(found: Installed) -> RenderableType:
    try:
        with named():
            return view(gather(found.again()), found.settings.prefix)
    except StoreError as error:
        return tables.cell(error, "bold red")


def view(status: Status, prefix: str) -> RenderableType:
    problems = [Text.assemble(("! ", "bold red"), tables.cell(problem)) for problem in status.problems]
    parts: list[RenderableType] = [_head(status, prefix)]
    if status.partitions:
        parts += [Text(""), _deliveries(status.deliveries, status)]
    if status.handlers:
        parts += [Text(""), _handlers(status)]
    if status.workers:
        parts += [Text(""), _workers(status)]
    if status.queues:
        bells = ", ".join(f"{name} {length:,}" for name, length in status.queues.items())
        parts += [Text(""), tables.cell(f"doorbells waiting: {bells}", "dim")]
    return Group(*parts, Text(""), *(problems or [Text("Nothing needs a person.", style="green")]))


def _head(status: Status, prefix: str) -> Text:
    server = status.server
    memory = tables.size(server.used_memory) + (f" of {tables.size(server.max_memory)}" if server.max_memory else "")
    words = [
        f"{server.kind} {server.version}",
        memory,
        f"append-only file {'on' if server.aof else 'OFF'}",
        tables.plural(status.partitions, "partition"),
        "swept" if status.sweeping else "NOT SWEPT",
    ]
    return Text.assemble((prefix, "bold"), "  ", " · ".join(words))


def _deliveries(deliveries: Deliveries, status: Status) -> Table:
    def waiting(count: int, ms: int | None) -> str:
        return f"{count:,}" + (f" (oldest {tables.age(ms)})" if count and ms is not None else "")

    values = {
        "accepted": f"{deliveries.accepted:,}",
        "unread": waiting(deliveries.unread, deliveries.unread_ms),
        "held": waiting(deliveries.held, deliveries.held_ms),
    }
    values["backlog"] = f"{status.load.events:,} ({tables.size(status.load.size)})"
    values |= {name: f"{deliveries.counters[name]:,}" for name in COUNTERS}
    values |= {"dead letters": f"{status.dead:,}", "in quarantine": f"{status.quarantine:,}"}
    grid = Table.grid(padding=(0, 3, 0, 0))
    cells = [Text.assemble((f"{name} ", "dim"), value) for name, value in values.items()]
    for at in range(0, len(cells), 4):
        grid.add_row(*cells[at : at + 4])
    return grid


def _workers(status: Status) -> Table:
    shown = tables.table(
        "worker", "process", "state", "beat", "received", "last", "busy", numbers=["process", "received"]
    )
    for one in status.workers:
        beat = one.beat
        last = None if beat.received_at is None else max(0, one.now - beat.received_at)
        shown.add_row(
            tables.cell(beat.name, "cyan"),
            Text(str(beat.pid)),
            tables.cell(one.state, "" if one.healthy else "bold red"),
            tables.cell(tables.age(one.now - one.at)),
            tables.cell(beat.received),
            tables.cell(tables.age(last)),
            tables.cell(f"{beat.busy}/{beat.places}"),
        )
    return shown


def _handlers(status: Status) -> Table:
    names = ["waiting", "oldest", "done", "discarded", "dead", "retried", "due", "backing off", "running", "blocked"]
    conflated = any(handler.conflated for handler in status.handlers)  # few handlers do, and lines are narrow
    if conflated:
        names.insert(4, "conflated")
    shown = tables.table("handler", *names, "circuit", numbers=names)
    for handler in status.handlers:
        numbers = [handler.done, handler.discarded, *([handler.conflated] if conflated else [])]
        numbers += [handler.dead, handler.retried, handler.due, handler.backing_off]
        shown.add_row(
            tables.cell(handler.name, "cyan"),
            tables.cell(handler.waiting),
            tables.cell(tables.age(handler.oldest_ms)),
            *map(tables.cell, [*numbers, handler.claimed, handler.blocked]),
            tables.cell(handler.circuit.words(), "bold red" if handler.circuit.holds else ""),
        )
    return shown
