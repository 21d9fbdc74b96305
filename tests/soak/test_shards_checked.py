"""The invariants of a long run: each partition's are checked by its own part, and its own books."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.check_time import Bounds
from tests.chaos.history import Books, Finding, History, Message, Post, Terms
from tests.soak import running, shards
from tests.soak.shards import Shards
from worker.store.keys import partition_of

PARTITIONS = 4
TEAMS = ["a", "b", "c", "d"]
WHOLE = History(handlers=[Terms("every", changes=False)], began=0.0, ended=9.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which four teams had an event each, and the handler's call for the last one's failed."""
    to = Shards(tmp_path / "partitions", PARTITIONS)
    records = tmp_path / "records"
    records.mkdir()
    lines = []
    for number, team in enumerate(TEAMS):
        to.message(Message(f"{team}-e1", team=team, seq=1, type="message.created"))
        to.post(Post(f"{team}-e1", 1.0, 1.1, 202))
        lines.append(f'["start",{number},1.2,"every","{team}-e1","{team}",1,1,false,false,null,null,[]]')
        lines.append(f'["end",{number},1.3,"{"failed" if team == TEAMS[-1] else "done"}"]')
    to.close()
    (records / "7-1.00.jsonl").write_text("".join(f"{line}\n" for line in lines))
    shards.sort_records(records, to.folder, PARTITIONS)
    return to.folder


def checked(folder: Path, *, dead: tuple[tuple[str, str], ...] = ()) -> dict[str, Finding]:
    books = []
    for number in range(PARTITIONS):
        here = [team for team in TEAMS if partition_of(team, PARTITIONS) == number]
        gone = [letter for letter in dead if letter[1].partition("-")[0] in here]
        done = sum(team != TEAMS[-1] for team in here)
        books.append(Books(accepted=len(here), counts={"done:every": done}, dead=gone))
    findings, calls = running._checked(WHOLE, books, folder, Bounds(progress=5.0))
    assert calls == 4
    return {finding.name: finding for finding in findings}


def test_an_event_that_one_partition_lost_is_found_there(folder: Path) -> None:
    found = checked(folder)
    where = partition_of(TEAMS[-1], PARTITIONS)
    assert [name for name, finding in found.items() if not finding.held] == ["conservation", "progress"]
    (line,) = found["conservation"].evidence
    assert line.startswith(f"partition {where}: every was never called to success for d-e1")


def test_a_job_that_a_person_has_dropped_is_accounted_for(folder: Path) -> None:
    assert all(finding.held for finding in checked(folder, dead=(("every", "d-e1"),)).values())


def test_all_seven_are_checked_over_all_partitions(folder: Path) -> None:
    found = checked(folder)
    assert [finding.number for finding in found.values()] == [1, 2, 3, 4, 5, 6, 7]
    assert {finding.checked for finding in found.values()} == {"4 events, 4 calls, in 4 partitions"}
