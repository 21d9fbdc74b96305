"""The verdicts on a run's samples, as pure functions: which process leaks, which key family grows, whether the ledger
drifts.

A process is judged by its series: its memory, descriptors and threads after a warm-up, if it lived long enough. One
that was started again is another. A key family is judged by what it held after the time in which all its bounds are
met, by its hard bound if it has one, and by what is left of it when the work is over. Each verdict says from which
growth on it would have found it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.soak.families import Bound
from tests.soak.samples import SERVER, ProcessSample, Sample
from tests.soak.trends import Point, Trend, smoothed, trend

MIB: Final = 1024.0 * 1024


@dataclass(frozen=True)
class Limits:
    """Seconds, bytes and counts. ``young``: the warm-up of a process; ``least``: of its series has to be left after it.
    ``settle``: until all bounds of key families are met; ``period``: of the sawtooth that they have. The others are the
    growth over the time that is judged which is called one; ``family_share`` of what it holds, if that is more."""

    young: float = 60.0
    least: float = 60.0
    settle: float = 150.0
    period: float = 30.0
    process: float = 4 * MIB
    server: float = 8 * MIB
    used: float = 4 * MIB
    files: float = 24
    threads: float = 4
    clients: float = 24
    family_entries: float = 100
    family_size: float = 128 * 1024
    family_share: float = 0.15


@dataclass(frozen=True)
class ProcessVerdict:
    """One kind. ``first`` and ``last`` are bytes of its longest judged series, or of its longest; ``slope`` is the
    steepest of the judged ones', by the second, and ``finds`` the least that would have been called a leak in the
    longest, None where none was judged."""

    kind: str
    series: int
    judged: int
    first: float
    last: float
    peak: float
    slope: float
    finds: float | None
    evidence: Sequence[str] = ()


@dataclass(frozen=True)
class FamilyVerdict:
    """``peak`` and ``last`` are entries, ``size`` bytes at the last; ``slope`` entries by the second after all bounds
    were met, None where that time was too short."""

    name: str
    by: str
    keys: int
    peak: int
    last: int
    size: int
    slope: float | None
    evidence: Sequence[str] = ()


@dataclass(frozen=True)
class LedgerVerdict:
    looked: int
    released: int
    evidence: Sequence[str] = ()


@dataclass(frozen=True)
class ServerVerdict:
    """The server's own account of its data, which its restarts do not begin anew; bytes, and bytes by the second."""

    first: float
    last: float
    peak: float
    slope: float | None
    clients: int
    file: int
    evidence: Sequence[str] = ()


@dataclass(frozen=True)
class Verdicts:
    processes: Sequence[ProcessVerdict] = ()
    families: Sequence[FamilyVerdict] = ()
    server: ServerVerdict | None = None
    ledger: LedgerVerdict = field(default_factory=lambda: LedgerVerdict(0, 0))

    @property
    def evidence(self) -> list[str]:
        """What is wrong, a line each."""
        parts = [*self.processes, *self.families, *([self.server] if self.server else []), self.ledger]
        return [line for part in parts for line in part.evidence]


def judge(
    samples: Sequence[Sample],
    limits: Limits,
    bounds: Mapping[str, Bound],
    most: Callable[[Bound], int | None],
    *,
    over: Sample | None = None,
) -> Verdicts:
    """``most`` gives a family's hard bound in this run; ``over`` is a sample of when all work was over."""
    return Verdicts(
        processes=processes(samples, limits),
        families=[family(name, bound, samples, limits, most(bound), over) for name, bound in bounds.items()],
        server=server(samples, limits),
        ledger=drift([*samples, *([over] if over else [])]),
    )


def processes(samples: Sequence[Sample], limits: Limits) -> list[ProcessVerdict]:
    series: dict[str, dict[tuple[int, float], list[tuple[float, ProcessSample]]]] = defaultdict(dict)
    for sample in samples:
        for one in sample.processes:
            series[one.kind].setdefault((one.pid, one.born), []).append((sample.at, one))
    return [_kind(kind, list(found.values()), limits) for kind, found in series.items()]


def _kind(kind: str, series: Sequence[Sequence[tuple[float, ProcessSample]]], limits: Limits) -> ProcessVerdict:
    bound = limits.server if kind == SERVER else limits.process
    judged: list[Trend] = []
    evidence: list[str] = []
    for points in series:
        begin = points[0][0] + limits.young
        left = [(at, one) for at, one in points if at >= begin]
        found = trend([Point(at, one.rss) for at, one in left])
        if found is None or found.seconds < limits.least:
            continue
        judged.append(found)
        who = f"{left[0][1].name}, {kind} {left[0][1].pid}"
        if found.grows(bound):
            evidence.append(
                f"{who}: its memory grows by {_rate(found)}, {_from_to(found)} MiB in {found.seconds:.0f} s"
            )
        for what, most in (("files", limits.files), ("threads", limits.threads)):
            counts = [Point(at, count) for at, one in left if (count := getattr(one, what)) is not None]
            counted = trend(counts)
            if counted is not None and counted.grows(most):
                evidence.append(f"{who}: its {what} grow, from {counted.first:.0f} to {counted.last:.0f}")
    longest = max(judged, key=lambda found: found.seconds, default=None)
    memories = [[one.rss for _, one in points] for points in series]
    plain = max(memories, key=len)
    return ProcessVerdict(
        kind=kind,
        series=len(series),
        judged=len(judged),
        first=longest.first if longest else plain[0],
        last=longest.last if longest else plain[-1],
        peak=max(map(max, memories)),
        slope=max((found.slope for found in judged), default=0.0),
        finds=bound / longest.seconds if longest else None,
        evidence=evidence,
    )


def server(samples: Sequence[Sample], limits: Limits) -> ServerVerdict | None:
    answers = [(sample.at, sample.server) for sample in samples if sample.server is not None]
    if not answers:
        return None
    evidence = []
    used = settled([Point(at, one.used) for at, one in answers], limits)
    if used is not None and used.grows(limits.used):
        evidence.append(f"the server's data grow by {_rate(used)}, {_from_to(used)} MiB in {used.seconds:.0f} s")
    clients = settled([Point(at, one.clients) for at, one in answers], limits)
    if clients is not None and clients.grows(limits.clients):
        evidence.append(f"the server's connections grow, from {clients.first:.0f} to {clients.last:.0f}")
    last = answers[-1][1]
    return ServerVerdict(
        first=used.first if used else answers[0][1].used,
        last=used.last if used else last.used,
        peak=max(one.used for _, one in answers),
        slope=used.slope if used else None,
        clients=last.clients,
        file=last.file,
        evidence=evidence,
    )


def family(
    name: str, bound: Bound, samples: Sequence[Sample], limits: Limits, most: int | None, over: Sample | None
) -> FamilyVerdict:
    seen = [(sample.at, sample.families[name]) for sample in samples if sample.families and name in sample.families]
    evidence = []
    peak = max((one.entries for _, one in seen), default=0)
    left = over.families.get(name) if over is not None and over.families is not None else None
    held = peak if not bound.trimmed else left.entries if left is not None else 0
    if most is not None and held > most:
        evidence.append(f"{name} had {held:,} entries, and may have {most:,}: {bound.by}")
    entries = settled([Point(at, one.entries) for at, one in seen], limits)
    size = settled([Point(at, one.size) for at, one in seen], limits)
    if not bound.fills:
        if entries is not None and entries.grows(max(limits.family_entries, limits.family_share * entries.first)):
            evidence.append(f"{name} grows by {entries.slope:.2f} entries/s, {entries.first:.0f} to {entries.last:.0f}")
        elif size is not None and size.grows(max(limits.family_size, limits.family_share * size.first)):
            evidence.append(f"{name} grows by {_rate(size)}, {_from_to(size)} MiB")
    if bound.ends and left is not None and left.entries:
        evidence.append(f"{name} has {left.entries} entries in {left.keys} keys when all work is over")
    last = left or (seen[-1][1] if seen else None)
    return FamilyVerdict(
        name=name,
        by=bound.by,
        keys=last.keys if last else 0,
        peak=peak,
        last=last.entries if last else 0,
        size=last.size if last else 0,
        slope=entries.slope if entries is not None else None,
        evidence=evidence,
    )


def settled(points: Sequence[Point], limits: Limits) -> Trend | None:
    """The trend after all bounds are met, without the sawtooth that windows of time have."""
    late = [point for point in smoothed(points, limits.period) if point.at >= limits.settle]
    found = trend(late)
    return found if found is not None and found.seconds >= limits.least else None


def drift(samples: Sequence[Sample]) -> LedgerVerdict:
    looked = [sample for sample in samples if sample.drift is not None]
    evidence = [f"at {sample.at:.0f} s, {line}" for sample in looked for line in sample.drift or ()]
    return LedgerVerdict(len(looked), max((sample.released or 0 for sample in looked), default=0), evidence)


def _rate(found: Trend) -> str:
    return f"{found.slope / 1024:.1f} KiB/s"


def _from_to(found: Trend) -> str:
    return f"{found.first / MIB:.1f} to {found.last / MIB:.1f}"
