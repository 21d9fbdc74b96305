"""``handoff dev`` as it is used: real processes, real signals, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.processes import until

PATIENCE = 60.0  # seconds; only a hang takes so long

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds processes by their directory in /proc"),
]


class Dev:
    """A running ``handoff dev`` whose lines are read as they come."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker.ops.cli", "dev", *arguments],
            cwd=folder,
            env=environment(**{"HANDOFF_BIND": "127.0.0.1:0", **env}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def close(self) -> None:
        self._reader.join(PATIENCE)

    def wait_for(self, pattern: str) -> str:
        """The next line that matches. Fails, showing what was printed, if the output ends or stops before it."""
        while True:
            try:
                line = self._queue.get(timeout=PATIENCE)
            except Empty:
                line = None
            if line is None:
                pytest.fail(f"no line with {pattern!r} in:\n{self.output}")
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def wait_up(self) -> None:
        self.wait_for("Handoff is up")
        self.wait_for("Stop ")

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(PATIENCE)
        while (line := self._queue.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return code

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


def environment(**changes: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "INBOX_"))}
    return clean | changes


def processes_of(folder: Path) -> dict[int, str]:
    """The processes that run in ``folder`` or below it: pid and command line."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cwd").readlink().is_relative_to(folder):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def eventually(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def nothing_is_left(folder: Path) -> None:
    eventually(lambda: not processes_of(folder), lambda: processes_of(folder))


def child(folder: Path, part: str) -> int:
    """The first process (the one that `dev` itself started) whose command line has ``part``."""
    return min(pid for pid, command in processes_of(folder).items() if part in command)


@contextmanager
def running(folder: Path, *arguments: str, **env: str) -> Iterator[Dev]:
    dev = Dev(folder, *arguments, **env)
    try:
        yield dev
    finally:
        for pid in processes_of(folder):  # only a failed test has any
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dev.process.wait()
        dev.close()


def handoff(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.ops.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_once_shows_the_storys_three_changes_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    """In a directory with spaces and quotes in its name, which will do as well."""
    folder = tmp_path / 'it\'s a "test"'
    folder.mkdir()
    with running(folder, "--once") as dev:
        assert dev.end() == 0, dev.output
        kinds = re.findall(r"assignee_changed .*kind=(\w+)", dev.output)
        assert kinds == ["assigned", "reassigned", "unassigned"]
        nothing_is_left(folder)
        assert (folder / ".handoff" / "secret").stat().st_mode & 0o777 == 0o600
        assert not (folder / ".handoff" / "dev.env").exists()


def test_a_second_terminal_needs_no_settings_and_can_start_no_second_one(tmp_path: Path) -> None:
    with running(tmp_path) as dev:
        dev.wait_up()
        second = handoff(tmp_path, "dev", "--once", HANDOFF_BIND="127.0.0.1:0")
        assert second.returncode == 2
        assert second.stderr == (
            "Error: .handoff: another `handoff dev` is running in this directory (stop it, or start in another one)\n"
        )
        sent = handoff(tmp_path, "send", "--sample", "--seed", "7", "--json")
        assert sent.returncode == 0, sent.stderr
        assert "running `handoff dev`" in sent.stderr
        assert json.loads(sent.stdout)["accepted"] == 5
        dev.wait_for("kind=unassigned")
        dev.process.send_signal(signal.SIGINT)
        assert dev.end() == 0, dev.output
        assert "Traceback" not in dev.output
        nothing_is_left(tmp_path)


def waiting(folder: Path) -> int:
    """The jobs that are not settled."""
    status = json.loads(handoff(folder, "status", "--json").stdout)
    return sum(handler["waiting"] for handler in status["handlers"])


def test_data_and_secret_outlive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.wait_up()
        assert handoff(tmp_path, "send", "--sample", "--seed", "7").returncode == 0
        assignee = re.search(r"current=(\w+)", first.wait_for("kind=assigned"))
        secret = (tmp_path / ".handoff" / "secret").read_text()
        first.wait_for("kind=unassigned")
        until(lambda: waiting(tmp_path) == 0, "what was handled is written down")  # or it would rightly come again
        # As after a loss of power: no farewell, and half a command at the end of the append-only file.
        os.kill(child(tmp_path, "valkey-server"), signal.SIGKILL)
        told_who_died(first, "valkey")
    nothing_is_left(tmp_path)
    (newest,) = (tmp_path / ".handoff" / "valkey" / "appendonlydir").glob("*.incr.aof")
    with newest.open("ab") as log:
        log.write(b"*3\r\n$3\r\nSET\r\n$1\r\nx")
    with running(tmp_path) as second:
        second.wait_up()
        assert (tmp_path / ".handoff" / "secret").read_text() == secret
        # The same events again are known: nothing new comes of them, and the next story follows at once.
        assert handoff(tmp_path, "send", "--sample", "--seed", "7").returncode == 0
        assert handoff(tmp_path, "send", "--sample", "--seed", "8").returncode == 0
        second.wait_for("kind=unassigned")
        assert assignee is not None
        assert assignee[1] not in second.output
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 0
    nothing_is_left(tmp_path)


def test_ctrl_c_pressed_twice_ends_all_of_it(tmp_path: Path) -> None:
    with running(tmp_path) as dev:
        dev.wait_up()
        for _ in range(2):
            dev.process.send_signal(signal.SIGINT)
        assert dev.end() == 0, dev.output
        assert "Traceback" not in dev.output
        nothing_is_left(tmp_path)


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as dev:
        eventually(lambda: len(processes_of(tmp_path)) > 1, lambda: dev.lines)
        dev.process.send_signal(signal.SIGINT)
        assert dev.end() == 0, dev.output
        assert "Traceback" not in dev.output
        nothing_is_left(tmp_path)


def test_killed_itself_it_takes_its_children_along(tmp_path: Path) -> None:
    with running(tmp_path, "--no-samples") as dev:
        dev.wait_up()
        assert dev.output.index("ready.") < dev.output.index("Handoff is up")  # without a story, when the worker is
        dev.process.kill()
        nothing_is_left(tmp_path)
        # What it left in the folder misleads nobody.
        assert "running `handoff dev`" not in handoff(tmp_path, "send", "--sample").stderr


def told_who_died(dev: Dev, name: str) -> None:
    """It has ended for that, with one line about it."""
    assert dev.end() == 1
    assert f"Error: the {name} was killed by SIGKILL" in dev.output
    assert "it said last" not in dev.output  # which would have nothing to do with it


@pytest.mark.parametrize(("part", "name"), [("ingress", "ingress"), ("celery", "worker")])
def test_a_child_that_dies_is_named_and_the_rest_is_stopped(tmp_path: Path, part: str, name: str) -> None:
    with running(tmp_path) as dev:
        dev.wait_up()
        os.kill(child(tmp_path, part), signal.SIGKILL)
        told_who_died(dev, name)
        nothing_is_left(tmp_path)


def test_a_child_that_does_not_start_is_told_with_its_reason_and_never_called_up(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def (")
    with running(tmp_path, "--once", HANDOFF_HANDLERS="mine") as dev:
        assert dev.end() == 1, dev.output
        assert "Handoff is up" not in dev.output
        assert "Error: the worker ended with exit code 2; it said last: " in dev.output
        assert "HANDOFF_HANDLERS: 'mine' does not import: SyntaxError" in dev.output
        assert "Traceback" not in dev.output
        nothing_is_left(tmp_path)


def test_without_an_answer_in_time_it_says_how_far_it_came(tmp_path: Path) -> None:
    (tmp_path / "celery.py").write_text("import signal\nsignal.pause()\n")  # a worker that never works
    with running(tmp_path, "--once", "--deadline", "3") as dev:
        assert dev.end() == 1
        assert "Error: not up after 3 s: 0 of 3 changes reached the log handler" in dev.output
        nothing_is_left(tmp_path)


def test_a_server_of_ones_own_is_used_and_none_is_started(tmp_path: Path, server_url: str, prefix: str) -> None:
    with running(tmp_path, "--once", HANDOFF_REDIS_URL=server_url, HANDOFF_PREFIX=prefix) as dev:
        assert dev.end() == 0, dev.output
        assert "valkey " not in dev.output
        assert not (tmp_path / ".handoff" / "valkey" / "port").exists()


def test_a_port_in_use_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = handoff(tmp_path, "dev", HANDOFF_BIND=address)
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: HANDOFF_BIND: {address} is in use by another program (stop it, or set ")
    assert result.stdout == ""


def test_a_folder_that_cant_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".handoff").write_text("a file where the folder should be")
    result = handoff(tmp_path, "dev", HANDOFF_BIND="127.0.0.1:0")
    assert result.returncode == 2
    assert result.stderr.startswith("Error: .handoff: can't be used: ")
    assert len(result.stderr.splitlines()) == 1


def test_data_that_cant_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".handoff" / "valkey" / "port").mkdir(parents=True)
    result = handoff(tmp_path, "dev", HANDOFF_BIND="127.0.0.1:0")
    assert result.returncode == 2
    assert result.stderr.startswith("Error: .handoff/valkey/port: can't be used: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_makefile_prints_its_targets() -> None:
    printed = subprocess.run(["make", "-C", Path(__file__).parents[2]], capture_output=True, text=True, check=True)
    for target in ("run", "test", "lint", "bench", "lock"):
        assert f"make {target} " in printed.stdout
