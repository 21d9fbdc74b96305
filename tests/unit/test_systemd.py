"""What systemd is told of a worker, where it waits to be told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from worker.runtime.systemd import say_well


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_that_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    path = f"@handoff-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + path[1:] if abstract else path)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        say_well()
        monkeypatch.setenv("WATCHDOG_USEC", "90000000")
        say_well()
        assert systemd.recv(100) == b"WATCHDOG=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_nobody_minds_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    say_well()
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    say_well()
