"""The bench's tables, in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.arena import Run
from tests.bench.checker import Verdict
from tests.bench.contenders import CONTENDERS
from tests.bench.findings import Absence
from tests.bench.sections import Section

EXACT, BAD = Verdict(0, 0, 0, 0), Verdict(12_345, 6_789, 1_011, 12_131)
MEBI = 1024 * 1024


def paper(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, markup=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= console.width
    return text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_figure_of_the_contenders_is_cut(width: int) -> None:
    """Where there is little room, there are fewer columns, and names fold."""
    runs = [
        Run(
            contender.name,
            number,
            1 / (110_000 + 1_000 * row + 100 * number),
            1,
            12_340.0 + row,
            5_670.0 + row,
            (1_500 + row) * MEBI,
            (2_600 + row) * MEBI,
            1_234.0 + row,
            BAD if row % 2 else EXACT,
            finished=True,
        )
        for row, contender in enumerate(CONTENDERS)
        for number in (1, 2, 3)
    ]
    console = paper(width)
    report.show(console, CONTENDERS, runs, [Absence("groupmq", "no Node"), Absence("bare", "TimeoutError", 2)])
    text = text_of(console)
    assert "…" not in text
    for row in range(len(CONTENDERS)):
        rate = 110_000 + 1_000 * row
        assert f"{rate + 200:,}" in text
        assert f"({rate + 100:,}-{rate + 300:,})" in text
        assert f"{110_200 / (rate + 200):.2f}" in text
        assert f"{12_340 + row:,} + {5_670 + row:,}" in text
        assert f"{1_500 + row} + {2_600 + row}" in text
        assert (f"{1_234 + row}.0" in text) is (width >= report.WIDE)
    assert "not run: no Node" in text
    assert "round 2 failed: TimeoutError" in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_figure_of_a_section_is_cut(width: int) -> None:
    name = "512 connections, appendfsync always, durability fsync: what was accepted, all of it"
    rows = [(name, 1_234_567_890.0, "us/request"), ("    p99", 12.34, "ms"), ("x" * 90, 987_654.0, "/s")]
    console = paper(width)
    report.show_section(console, Section("Title", rows, "a note"))
    text = text_of(console)
    assert "…" not in text
    for whole in ("1,234,567,890 us/request", "12.34 ms", "987,654 /s", "a note"):
        assert whole in " ".join(text.split())
    assert text.count("x") >= 90
