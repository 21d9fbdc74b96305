"""The front doors that are compared: how each is started, and where what it has accepted is to be found."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from tests import processes, servers
from tests.bench.arena import Arena
from tests.bench.contenders.celery_app import URL_VARIABLE
from tests.bench.contenders.handoff import ROOT
from tests.bench.doors import BY_TASK, PARTITIONS, PREFIX
from tests.bench.sections.door import SECRET, Door, open_door
from tests.processes import until
from worker.store.keys import PartitionKeys

UVICORN: Final = ("uvicorn", "tests.bench.doors.fastapi_app:app", "--no-access-log", "--log-level", "warning")
GUNICORN: Final = ("gunicorn", "tests.bench.doors.flask_app:app", "--worker-class", "gthread", "--threads", "8")
CELERY_QUEUE: Final = "celery"


@dataclass(frozen=True)
class Kind:
    """``command`` is started with the address; none: the ingress. ``needs`` are its packages. ``share`` of the work is
    posted to it, once or several times, so that a slow one takes no minutes and a quick one more than a moment."""

    name: str
    command: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    share: float = 1.0
    by_task: bool = False
    empty: bool = False
    gets: bool = False

    def why_not(self) -> str | None:
        """Why it can't run here, if so."""
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        return f"no {', '.join(missing)} here" if missing else None

    def stored(self, arena: Arena) -> int:
        """How many requests have left something in the server."""
        if self.empty:
            return 0
        if self.by_task:
            return int(arena.client.llen(CELERY_QUEUE))  # type: ignore[arg-type]
        inboxes = (PartitionKeys(PREFIX, number).inbox for number in range(PARTITIONS))
        return sum(int(arena.client.xlen(inbox)) for inbox in inboxes)  # type: ignore[arg-type]

    @contextmanager
    def open(self, arena: Arena) -> Iterator[Door]:
        if not self.command:
            with open_door(arena.url, MAX_BACKLOG="0") as door:
                yield door
            return
        address = f"127.0.0.1:{servers.free_port()}"
        environment = {URL_VARIABLE: arena.url, "BENCH_SECRET": SECRET, "PYTHONPATH": str(ROOT)}
        if self.by_task:
            environment[BY_TASK] = "1"
        with processes.running([sys.executable, "-m", *self._at(address)], environment, ROOT) as process:
            until(lambda: _answers(address), "the door is open", deadline=60)
            yield Door(process, address)

    def _at(self, address: str) -> tuple[str, ...]:
        host, _, port = address.partition(":")
        arguments: dict[str, Callable[[], tuple[str, ...]]] = {
            "uvicorn": lambda: ("--host", host, "--port", port),
            "gunicorn": lambda: ("--bind", address),
        }
        return *self.command, *arguments.get(self.command[0], lambda: (address,))()


HANDOFF: Final = Kind("Handoff: signed, stored by group commit", share=2)
EMPTY: Final = Kind("the same server, empty 204", ("tests.bench.doors.empty",), share=3, empty=True)
EMPTY_GET: Final = Kind(
    "the same server, empty 204 to a GET without a body", ("tests.bench.doors.empty",), share=3, empty=True, gets=True
)
OTHERS: Final = (
    Kind("FastAPI on uvicorn, one XADD each", UVICORN, ("fastapi", "uvicorn", "httptools"), share=0.5),
    Kind("Flask on gunicorn, 8 threads, one XADD each", GUNICORN, ("flask", "gunicorn"), share=0.25),
    Kind("FastAPI on uvicorn, one Celery task each", UVICORN, ("fastapi", "uvicorn"), share=0.2, by_task=True),
    Kind("Flask on gunicorn, 8 threads, one Celery task each", GUNICORN, ("flask", "gunicorn"), 0.2, by_task=True),
)
KINDS: Final = (EMPTY, EMPTY_GET, HANDOFF, *OTHERS)


def _answers(address: str) -> bool:
    try:
        httpx.get(f"http://{address}/")
    except httpx.HTTPError:
        return False
    return True
