"""The bench's figures as pictures. ``python -m tests.bench.pictures bench/figures.json DIR`` draws them again.

Colours and marks are told apart without colour (Okabe and Ito's, and each line has its own mark and dashes).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Points = Sequence[Mapping[str, float]]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
STYLES: Final = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PURPLE, "D", ":"))
SCALE: Final = ("teams", "teams, all alike", "waiting", "handlers", "processes", "ingresses")
RATE: Final = 1_000_000
DOTS: Final = 150  # an inch


def draw(folder: Path, series: Mapping[str, Points]) -> list[Path]:
    """Every picture that ``series`` (points by the name of their curve) has figures for, as PNG in ``folder``."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True})
    mpl.rcParams.update(
        {"grid.color": "#dddddd", "grid.linewidth": 0.6, "legend.frameon": False, "axes.axisbelow": True}
    )
    drawn: list[Path] = []
    if all(name in series for name in SCALE):
        drawn.append(_save(_scale(series), folder / "scale.png"))
    shares = {name: points for name, points in series.items() if points and "share" in points[0]}
    if shares and "costs" in series:
        drawn.append(_save(_capacity(shares, series["costs"][0]["writer"]), folder / "capacity.png"))
    return drawn


def _scale(series: Mapping[str, Points]) -> Any:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    costs = [figure.add_subplot(grid[0, at : at + 2]) for at in (0, 2, 4)]
    rates = [figure.add_subplot(grid[1, at : at + 3]) for at in (0, 3)]
    figure.suptitle("Handoff: what an event costs, and how many there are in a second, on two cores")
    _costs(costs[0], series["teams"], "teams", "Teams (Zipf sizes)")
    worst = series["teams, all alike"]
    _line(costs[0], [p["count"] for p in worst], [_both(p) for p in worst], 3, "both, teams all alike")
    costs[0].legend(fontsize=8)
    _costs(costs[1], series["waiting"], "events that wait", "Backlog")
    _costs(costs[2], series["handlers"], "handlers of every event", "Handlers", job=True)
    top = max(axis.get_ylim()[1] for axis in costs)
    for axis in costs:
        axis.set_ylim(0, 1.25 * top)
    if "processes" in series:
        _bars(
            rates[0], series["processes"], ("worker", "server"), "worker processes", "events/s", "To the last handler"
        )
    if "ingresses" in series:
        _bars(
            rates[1], series["ingresses"], ("ingress", "server"), "ingresses", "deliveries/s", "Signed posts accepted"
        )
    return figure


def _costs(axis: Any, points: Points, what: str, title: str, *, job: bool = False) -> None:
    counts = [point["count"] for point in points]
    _line(axis, counts, [p["sequencer"] + p["sequencer_server"] for p in points], 0, "sequencing, an event")
    _line(axis, counts, [p["runner"] + p["runner_server"] for p in points], 1, "running, a job")
    if not job:
        _line(axis, counts, [_both(point) for point in points], 2, "both")
    axis.set_xscale("log")
    axis.set_xticks(counts, [_short(count) for count in counts])
    axis.minorticks_off()
    axis.set(title=title, xlabel=f"{what} (log)", ylabel="CPU, µs (worker + server)")
    axis.legend(fontsize=8)


def _bars(axis: Any, points: Points, sides: tuple[str, str], what: str, unit: str, title: str) -> None:
    places = range(len(points))
    bars = axis.bar(places, [point["rate"] for point in points], width=0.55, color=BLUE)
    labels = [f"{point['rate']:,.0f}\n{sum(point[side] for side in sides):.0f} µs" for point in points]
    axis.bar_label(bars, labels, padding=2, fontsize=8)
    axis.set_xticks(places, [f"{point['count']:g}" for point in points])
    axis.set_ylim(0, 1.3 * max(point["rate"] for point in points))
    axis.grid(visible=False, axis="x")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set(title=f"{title} (µs: CPU of each)", xlabel=what, ylabel=unit)


def _capacity(shares: Mapping[str, Points], writer: float) -> Any:
    from matplotlib import pyplot as plt

    from tests.bench.capacity import UTILISATION

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    figure.suptitle(
        f"One writer a partition: {writer:.0f} µs an event, no more than {UTILISATION:.0%} busy (simulated)"
    )
    counts: list[float] = []
    for number, (name, points) in enumerate(shares.items()):
        counts = [point["count"] for point in points]
        _line(left, counts, [100 * point["share"] for point in points], number, name)
        _line(right, counts, [point["most"] for point in points], number, name)
    left.plot(counts, [100 / count for count in counts], color=GREY, linewidth=0.8, label="1/P")
    limit = 100 * UTILISATION / writer * 1e6 / RATE
    left.axhline(limit, color=GREY, linewidth=1, linestyle=(0, (6, 3)))
    text = {"textcoords": "offset points", "fontsize": 8}
    left.annotate(f"{limit:.2g} %: what one writer\ntakes of {RATE:,}/s", (1, limit), (0, -24), **text)
    right.axhline(RATE, color=GREY, linewidth=1, linestyle=(0, (6, 3)))
    right.annotate(f"{RATE:,}/s", (1, RATE), (0, 4), **text)
    left.set(title="Share of the busiest partition", ylabel="% of all events (log)")
    right.set(title="The most that all partitions take, in order", ylabel="events/s (log)")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        ticks = counts[::2]
        axis.set_xticks(ticks, [f"{count:,.0f}" for count in ticks], fontsize=8)
        axis.set_xlabel("partitions P (log)")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    left.legend(fontsize=8)
    return figure


def _line(axis: Any, x: Sequence[float], y: Sequence[float], style: int, label: str) -> None:
    color, marker, dashes = STYLES[style]
    axis.plot(x, y, color=color, marker=marker, linestyle=dashes, markersize=4.5, linewidth=1.6, label=label)


def _both(point: Mapping[str, float]) -> float:
    return sum(point[name] for name in ("sequencer", "sequencer_server", "runner", "runner_server"))


def _short(count: float) -> str:
    return f"{count / 1e6:g} M" if count >= 1e6 else f"{count:,.0f}"


def _save(figure: Any, file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure.savefig(file, dpi=DOTS, metadata={"Software": None})
    plt.close(figure)
    return file


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text())
    found = {name: points for section in document["sections"] for name, points in section["series"].items()}
    draw(Path(sys.argv[2]), found)
