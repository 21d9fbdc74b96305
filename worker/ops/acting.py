"""What people do to many things at once: count them, ask, do it at a bounded rate, say what was done, leave a record.

    matched ──▶ counted by group ──▶ --dry-run: said, and that is all
                     │
                     └─▶ agreed? (--yes, all named by id, or asked at a terminal) ──▶ record: begun
                              ──▶ piece by piece, each atomic in the store ──▶ record: done, instead of begun

A run that is interrupted has done some of the pieces and left its record; run again, it does the others.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from worker.errors import ConfigurationError
from worker.ops import tables
from worker.ops.installed import Installed
from worker.ops.people import who
from worker.store import actions

T = TypeVar("T")

GROUPS_SHOWN: Final = 20
PAUSES: Final = 10  # of a paced run, in a second


@dataclass(frozen=True, slots=True)
class Asked:
    """How a command was given. ``named``: every single thing by its id, so that there is nothing to ask."""

    yes: bool
    dry_run: bool
    as_json: bool
    named: bool
    rate: float | None = None  # things per second

    def piece(self, most: int) -> int:
        """How many to do at once."""
        return most if self.rate is None else max(1, min(most, int(self.rate / PAUSES)))


@dataclass(frozen=True, slots=True)
class Action(Generic[T]):
    """What is done to ``things``, cut into ``pieces`` of up to ``most``.

    ``name`` is the command's, for the record, ``args`` what it was told; ``verb``, ``one`` and ``many`` are its words.
    ``do`` gives one of ``outcomes`` for every thing of a piece (``judge``, if there is one: what ``do`` would give);
    the first is what was wanted, those in ``bad`` are for a person to look at, and each has its words. ``group`` is
    what a thing is counted under, ``names`` what these words are.
    """

    name: str
    args: Mapping[str, Any]
    verb: str
    one: str
    many: str
    things: Sequence[T]
    group: Callable[[T], tuple[str, ...]]
    names: tuple[str, ...]
    pieces: Callable[[int], Iterable[Sequence[T]]]
    most: int
    do: Callable[[Sequence[T]], Iterable[str]]
    outcomes: Mapping[str, str]
    bad: AbstractSet[str] = frozenset()
    judge: Callable[[Sequence[T]], Iterable[str]] | None = None
    missing: int = 0  # named, and not there


@dataclass(slots=True)
class Report:
    """What became of it all. ``counts`` is by outcome; ``missing`` were named and are not there."""

    matched: int
    groups: Counter[tuple[str, ...]]
    dry_run: bool
    missing: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def document(self, names: Sequence[str]) -> dict[str, Any]:
        by = [dict(zip(names, group, strict=True)) | {"count": count} for group, count in self.groups.most_common()]
        return {"matched": self.matched, "missing": self.missing, "dry_run": self.dry_run, "by": by} | self.counts


def carry_out(
    found: Installed, asked: Asked, action: Action[T], *, sleep: Callable[[float], None] = time.sleep
) -> Report | None:
    """Do it, or with ``--dry-run`` say what would be done. None: a person was asked, and said no.

    Raises ``ConfigurationError`` where there is nobody to ask, and ``StoreUnavailable``.
    """
    report = Report(len(action.things), Counter(map(action.group, action.things)), asked.dry_run, action.missing)
    report.counts.update(dict.fromkeys(action.outcomes, 0))
    if asked.dry_run:
        judge = action.judge or (lambda piece: [next(iter(action.outcomes))] * len(piece))
        for piece in action.pieces(action.most):
            report.counts.update(judge(piece))
        return report
    if not action.things:
        return report
    if not asked.named and not asked.yes and not _agreed(action, report):
        return None
    begun = _record(found, action, {"matched": report.matched, "unfinished": True}, 0)
    try:
        _run(asked, report, action, sleep)
    finally:
        done = {name: count for name, count in report.counts.items() if count}
        whole = sum(report.counts.values()) == report.matched
        result = {"matched": report.matched, **done} | ({} if whole else {"unfinished": True})
        _record(found, action, result, report.counts[next(iter(action.outcomes))], begun)
    return report


def tell(report: Report | None, action: Action[Any], asked: Asked) -> int:
    """Print what became of it; the command's exit code."""
    if report is None:
        click.echo("Nothing was done.", err=True)
        return 1
    if asked.as_json:
        click.echo(tables.as_json(report.document(action.names)))
    else:
        for line in _words(report, action):
            click.echo(line)
    wrong = report.missing or any(report.counts[name] for name in action.bad)
    return 1 if wrong and not asked.dry_run else 0


def _words(report: Report, action: Action[Any]) -> Iterator[str]:
    if not report.matched:
        yield f"None of the {action.many} matches." if not report.missing else "None of them is there (any more)."
        return
    first, *others = action.outcomes
    if report.dry_run:
        yield from breakdown(report)
        would = f"would be {action.outcomes[first]}"
    else:
        would = action.outcomes[first]
    yield f"{report.counts[first]:,} of {tables.plural(report.matched, action.one, action.many)} {would}."
    for name in others:
        if report.counts[name]:
            yield f"{report.counts[name]:,} {action.outcomes[name]}."
    if report.missing:
        yield f"{report.missing:,} not there (any more)."


def _agreed(action: Action[Any], report: Report) -> bool:
    count = tables.plural(report.matched, action.one, action.many)
    if not somebody_is_there():
        raise ConfigurationError(
            "--yes",
            f"{count} to {action.verb}, and nobody to ask",
            "--dry-run only counts; what is named needs no --yes",
        )
    for line in breakdown(report):
        click.echo(line, err=True)
    return click.confirm(f"{action.verb.capitalize()} {count}?", err=True)


def somebody_is_there() -> bool:
    return sys.stdin.isatty()


def breakdown(report: Report) -> list[str]:
    """How many of what, the most first."""
    lines = []
    for group, count in report.groups.most_common(GROUPS_SHOWN):
        lines.append(f"  {count:>7,}  {tables.cell('  '.join(word or '-' for word in group)).plain}")
    if len(report.groups) > GROUPS_SHOWN:
        lines.append(f"  and {len(report.groups) - GROUPS_SHOWN:,} other kinds")
    return lines


def _run(asked: Asked, report: Report, action: Action[Any], sleep: Callable[[float], None]) -> None:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"{action.verb} {action.many}", total=report.matched)
        started, done = time.monotonic(), 0
        for piece in action.pieces(asked.piece(action.most)):
            if asked.rate is not None and done:
                sleep(max(0.0, started + done / asked.rate - time.monotonic()))
            report.counts.update(action.do(piece))
            done += len(piece)
            progress.update(task, advance=len(piece))


def _record(
    found: Installed, action: Action[Any], result: Mapping[str, Any], count: int, instead_of: str | None = None
) -> str:
    told = {name: value for name, value in action.args.items() if value not in (None, False, (), [])}
    return actions.record(
        found.client,
        found.settings.prefix,
        who=who(),
        what=action.name,
        args=told | {"result": result},
        count=count,
        instead_of=instead_of,
    )
