"""Sends a list of events and says what came back: the part of ``handoff send`` between options and HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from worker.core import envelope
from worker.ops import posting


class Outgoing(NamedTuple):
    """One event to post; ``label`` says in a few words which it is, for its line of the output."""

    body: bytes
    label: str


@dataclass(frozen=True)
class Result:
    """The answers, in the order of the events, and the ``seconds`` that all of it took."""

    outgoing: Sequence[Outgoing]
    answers: Sequence[posting.Answer]
    seconds: float

    @property
    def accepted_all(self) -> bool:
        return all(answer.accepted for answer in self.answers)

    @property
    def per_second(self) -> float:
        return len(self.answers) / self.seconds if self.seconds else 0.0

    def as_json(self) -> str:
        counted = posting.summary(self.answers)
        return json.dumps(
            {
                "sent": counted.sent,
                "accepted": counted.accepted,
                "retries": counted.retries,
                "seconds": round(self.seconds, 3),
                "per_second": round(self.per_second, 1),
                "answers": [
                    {"status": status, "code": code, "count": count} for (status, code), count in counted.by_answer
                ],
            }
        )

    def lines(self) -> list[str]:
        """A line for each event: the answer and which event it was."""
        return [
            f"{verdict(answer.status, answer.code)}  {event.label}" + _again(answer)
            for event, answer in zip(self.outgoing, self.answers, strict=True)
        ]

    def show_table(self) -> None:
        """Print how often each answer came."""
        counted = posting.summary(self.answers)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("answer")
        table.add_column("posts", justify="right")
        for (status, code), count in counted.by_answer:
            table.add_row(verdict(status, code), f"{count:,}")
        console = Console()
        console.print(table)
        retries = f", {counted.retries:,} retries" if counted.retries else ""
        console.print(
            f"{counted.accepted:,} of {counted.sent:,} accepted in {self.seconds:.1f} s: "
            f"{self.per_second:,.0f} events/s{retries}",
            highlight=False,
        )


def send(outgoing: Sequence[Outgoing], to: posting.Target, *, concurrency: int, bar: bool) -> Result:
    """Post all, with a progress bar on standard error if asked for. Raises as ``posting.post_all`` does."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not bar) as progress:
        task = progress.add_task("", total=len(outgoing))
        began = time.perf_counter()
        answers = uvloop.run(
            posting.post_all(
                [event.body for event in outgoing],
                to,
                concurrency=concurrency,
                on_answer=lambda _: progress.advance(task),
            )
        )
        return Result(outgoing, answers, time.perf_counter() - began)


def verdict(status: int | None, code: str | None) -> str:
    """An answer in two words: ``202 accepted``, ``401 signature_invalid``, ``no answer``."""
    if status is None:
        return "no answer"
    if 200 <= status < 300:
        return f"{status} accepted"
    return f"{status} {code or 'refused'}"


def describe(body: bytes) -> str:
    """Which event a body is, without anything personal: ``seq 12 prospect.assigneeChanged``."""
    try:
        event = envelope.read(body)
    except envelope.Unreadable as error:
        return f"not an event ({error.reason})"
    return f"seq {event.seq} {event.type}"


def _again(answer: posting.Answer) -> str:
    return f"  (attempt {answer.attempts})" if answer.attempts > 1 else ""
