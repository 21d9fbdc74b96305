"""The file of changes: whole lines, in order, whoever writes, and whatever the disk says."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.handler_kit import loaded
from tests.runtime_kit import lane, run
from tests.store_kit import change
from worker import AssigneeChange, CallTimeout, Event
from worker.api import registered
from worker.core.failures import classify

PROCESSES, WRITES = 4, 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owners.jsonl"


@pytest.fixture
def jsonl(path: Path) -> Iterator[ModuleType]:
    with loaded("jsonl", HANDOFF_JSONL_PATH=str(path)) as module:
        yield module


def change_of(number: int, team: str = "a") -> AssigneeChange:
    return AssigneeChange(Event(change(team, number, pad=50)), kind="assigned")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def text(number: int, writer: int = 0, length: int = 300) -> bytes:
    return json.dumps({"writer": writer, "number": number, "pad": "x" * length}).encode() + b"\n"


# --- what a line says -------------------------------------------------------------------------------------------------


def test_each_change_is_a_line_without_the_raw_event(jsonl: ModuleType, path: Path) -> None:
    jsonl.append_lines([change_of(1), change_of(2)], None)
    first, second = lines(path)
    assert (first["event_id"], first["seq"], first["assignee_id"], first["kind"]) == ("a-1", 1, "m1", "assigned")
    assert second["seq"] == 2
    assert first.keys() == change_of(1).as_dict().keys() - {"event"}


def test_with_the_event_if_that_is_asked_for(path: Path) -> None:
    with loaded("jsonl", HANDOFF_JSONL_PATH=str(path), HANDOFF_JSONL_INCLUDE="event") as module:
        module.append_lines([change_of(1)], None)
        assert lines(path) == [change_of(1).as_dict()]
        assert "event" not in module.preview(change_of(1))  # a dry run shows no personal data


def test_no_character_of_a_person_ends_a_line(jsonl: ModuleType, path: Path) -> None:
    said = {"bio": "one\ntwo\r\u2028three\x85\ud800é"}
    jsonl.append(str(path), jsonl.encoded(said))
    assert len(path.read_bytes().splitlines()) == 1
    assert lines(path) == [said]


def test_a_workers_calls_bring_them_in_order(jsonl: ModuleType, path: Path) -> None:
    run(registered()["jsonl"], lane("a", *range(1, 40)), lane("b", *range(1, 40)))
    for team in ("a", "b"):
        assert [line["seq"] for line in lines(path) if line["team_id"] == team] == list(range(1, 40))


# --- many writers -----------------------------------------------------------------------------------------------------


def _write(path: str, writer: int, go: Any) -> None:
    with loaded("jsonl", HANDOFF_JSONL_PATH=path) as module:
        go.wait(20)
        for number in range(WRITES):
            # Longer than a page, several at once: what one write does not make whole shows.
            module.append(path, b"".join(text(number * 3 + more, writer, 4000) for more in range(3)))


def test_processes_share_the_file_and_a_rotation_loses_nothing(path: Path) -> None:
    spawned = multiprocessing.get_context("fork")
    go = spawned.Event()
    writers = [spawned.Process(target=_write, args=(str(path), number, go)) for number in range(PROCESSES)]
    for writer in writers:
        writer.start()
    go.set()
    moved = []
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            moved.append(path.rename(path.with_suffix(f".{len(moved)}")))
        writers[0].join(0.01)
    for writer in writers:
        writer.join(20)
    files = [*moved, *([path] if path.exists() else [])]
    found = [line for file in files for line in lines(file)]
    assert len(files) > 1
    for number in range(PROCESSES):
        assert [line["number"] for line in found if line["writer"] == number] == list(range(WRITES * 3))


def test_threads_of_a_process_take_turns_too(jsonl: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's lock would let them all in: one could take back what another wrote."""
    put, second = jsonl._put, threading.Thread(target=jsonl.append, args=(str(path), text(2)))
    inside: list[str] = []

    def noted(file: int, lines: bytes) -> None:
        inside.append("in")
        if not second.ident:
            second.start()
            second.join(0.2)  # it comes in now, if it ever does before the first is out
        put(file, lines)
        inside.append("out")

    monkeypatch.setattr(jsonl, "_put", noted)
    jsonl.append(str(path), text(1))
    second.join(20)
    assert inside == ["in", "out", "in", "out"]
    assert [line["number"] for line in lines(path)] == [1, 2]


def test_whoever_waits_for_its_turn_does_not_write_to_what_was_moved_meanwhile(
    jsonl: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl.append(str(path), text(1))
    lock, moved = jsonl.fcntl.lockf, path.with_suffix(".1")

    def slow(file: int, how: int) -> None:
        if not moved.exists():
            path.rename(moved)
        lock(file, how)

    monkeypatch.setattr(jsonl.fcntl, "lockf", slow)
    jsonl.append(str(path), text(2))
    assert [line["number"] for line in lines(moved)] == [1]
    assert [line["number"] for line in lines(path)] == [2]


def test_a_file_that_was_cut_to_nothing_is_gone_on_with(jsonl: ModuleType, path: Path) -> None:
    jsonl.append(str(path), text(1))
    os.truncate(path, 0)
    jsonl.append(str(path), text(2))
    assert [line["number"] for line in lines(path)] == [2]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_line_that_a_crash_left_without_its_end_is_ended_first(jsonl: ModuleType, path: Path) -> None:
    path.write_bytes(text(1) + b'{"numb')
    jsonl.append(str(path), text(2))
    whole, half, after = path.read_bytes().splitlines()
    assert (json.loads(whole)["number"], half, json.loads(after)["number"]) == (1, b'{"numb', 2)


def _fill(path: str, size: int, out: Any) -> None:
    """The disk has room for ``size`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with loaded("jsonl", HANDOFF_JSONL_PATH=path) as module:
        try:
            module.append(path, text(2) + text(3))
        except module.Unwritable as error:
            out.put(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("room", [10, 340, 400])
def test_what_a_full_disk_took_in_part_is_taken_back(jsonl: ModuleType, path: Path, room: int) -> None:
    """With room for a part of the first line, all of it, and more: the system writes what it can, and says so late."""
    jsonl.append(str(path), text(1))
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_fill, args=(str(path), path.stat().st_size + room, out))
    child.start()
    assert "File too large" in out.get(timeout=20)
    child.join(20)
    assert [line["number"] for line in lines(path)] == [1]
    jsonl.append(str(path), text(4))
    assert [line["number"] for line in lines(path)] == [1, 4]


def test_a_call_that_is_interrupted_takes_back_its_part_too(
    jsonl: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def half(file: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", interrupt)
        return write(file, data[:10])

    def interrupt(file: int, data: bytes) -> int:
        raise CallTimeout

    jsonl.append(str(path), text(1))
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(CallTimeout):
        jsonl.append(str(path), text(2))
    monkeypatch.undo()
    assert [line["number"] for line in lines(path)] == [1]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("/dev/full", "No space left on device"),
        ("missing/owners.jsonl", "No such file or directory"),
        ("file/owners.jsonl", "Not a directory"),
        (".", "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_outage_in_words(tmp_path: Path, where: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    with loaded("jsonl", HANDOFF_JSONL_PATH=str(tmp_path / where)) as module:
        with pytest.raises(module.Unwritable) as caught:
            module.append_lines([change_of(1)], None)
        assert str(caught.value) == f"HANDOFF_JSONL_PATH: can't be written to: {said}"
        failure = classify(caught.value, 0.0)
        assert (failure.outage, failure.permanent) == (True, False)


def test_a_missing_permission_is_one_too(jsonl: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)  # whoever runs the tests may be root
    with pytest.raises(jsonl.Unwritable, match="Permission denied"):
        jsonl.append_lines([change_of(1)], None)


def test_it_is_readable_for_its_group_at_most(jsonl: ModuleType, path: Path) -> None:
    jsonl.append(str(path), text(1))
    assert path.stat().st_mode & 0o137 == 0


@pytest.mark.parametrize("fsync", [True, False])
def test_the_disk_is_waited_for_if_that_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    with loaded("jsonl", HANDOFF_JSONL_PATH=str(path), HANDOFF_JSONL_FSYNC=str(int(fsync))) as module:
        module.append_lines([change_of(1)], None)
    assert synced == ([path.stat().st_ino, path.parent.stat().st_ino] if fsync else [])


# --- standard output --------------------------------------------------------------------------------------------------


def test_standard_output_gets_the_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with loaded("jsonl", HANDOFF_JSONL_PATH="-") as module:
        module.append_lines([change_of(1), change_of(2)], None)
    assert [json.loads(line)["seq"] for line in capfd.readouterr().out.splitlines()] == [1, 2]


def test_a_pipe_that_is_full_and_does_not_block_is_waited_for(jsonl: ModuleType) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sent = b"".join(text(number) for number in range(1000))
    got = bytearray()

    def read() -> None:
        while part := os.read(reader, 65536):
            got.extend(part)

    thread = threading.Thread(target=read, daemon=True)
    threading.Timer(0, thread.start).start()
    try:
        jsonl._write(writer, sent)
    finally:
        os.close(writer)
    thread.join(20)
    os.close(reader)
    assert bytes(got) == sent
