"""A steady load of deliveries, sent as the provider does: again until they are accepted. And what handlers saw."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from ingress.signature import HEADER, sign
from tests.store_kit import change

PLACE = tuple[str, int]  # team and seq


class Call(NamedTuple):
    handler: str
    team: str
    seq: int
    at: float
    late: bool


def calls_in(file: Path) -> list[Call]:
    """What the handlers of ``steady_handlers`` saw, in their order."""
    if not file.exists():
        return []
    words = [line.split() for line in file.read_text().splitlines()]
    return [Call(name, team, int(seq), float(at), late == "late") for name, team, seq, at, late in words]


@dataclass
class Load:
    """Sends each of ``teams`` its events one after another, with a pause of ``pause`` s, from one thread for each."""

    url: str
    secret: bytes
    teams: Sequence[str]
    pause: float = 0.1
    accepted: dict[PLACE, float] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for team in self.teams:
            self._threads.append(threading.Thread(target=self._run, args=(team,), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def accepted_since(self, at: float) -> list[PLACE]:
        return [place for place, when in list(self.accepted.items()) if when >= at]

    def _run(self, team: str) -> None:
        with httpx.Client(base_url=self.url, timeout=5) as http:
            for seq in itertools.count(1):
                body = change(team, seq, assignee=f"m{seq}")
                while not self._accepted(http, body):
                    if self._stopped.wait(0.05):
                        return
                self.accepted[team, seq] = time.time()
                if self._stopped.wait(self.pause):
                    return

    def _accepted(self, http: httpx.Client, body: bytes) -> bool:
        headers = {HEADER: sign(body, self.secret, int(time.time()))}
        try:
            status = http.post("/webhooks/inbox", content=body, headers=headers).status_code
        except httpx.HTTPError:
            status = 0
        self.answers[status] += 1
        assert status in (0, 202, 503), status
        return status == 202


def out_of_order(calls: Sequence[Call], handler: str) -> list[Call]:
    """First calls of an event that came after that of a later one of its team, and were not marked late."""
    seen: dict[str, set[int]] = defaultdict(set)
    wrong = []
    for call in calls:
        if call.handler == handler and call.seq not in seen[call.team]:
            if not call.late and any(seq > call.seq for seq in seen[call.team]):
                wrong.append(call)
            seen[call.team].add(call.seq)
    return wrong


def times(calls: Sequence[Call], handler: str) -> Counter[PLACE]:
    """How often a handler was called with each event."""
    return Counter((call.team, call.seq) for call in calls if call.handler == handler)
