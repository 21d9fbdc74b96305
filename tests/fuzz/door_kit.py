"""Raw sockets against a real ingress, and what it costs that: memory, descriptors, lines of log."""

from __future__ import annotations

import re
import resource
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from ingress.signature import HEADER
from tests.ingress_kit import PLAIN, Ingress, event, signed
from tests.processes import DEADLINE

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
PATIENCE = 60.0  # seconds that a good client waits for its answer; a failing test is who waits them out
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing leaves nothing behind, or the ports would be gone for a minute


def memory(door: Ingress) -> float:
    """MiB that the ingress has in memory now."""
    status = Path(f"/proc/{door.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def descriptors(door: Ingress) -> int:
    return sum(1 for _ in Path(f"/proc/{door.process.pid}/fd").iterdir())


def address(door: Ingress) -> tuple[str, int]:
    return door.http.base_url.host, door.http.base_url.port or 0


def request(body: bytes, *lines: str, path: str = PLAIN, method: str = "POST", sign: bool = True) -> bytes:
    """A request by hand: ``lines`` are its further header lines."""
    own = [f"{HEADER}: {signed(body)[HEADER]}"] if sign else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *own, *lines, "", ""]).encode("latin-1") + body


def sized(body: bytes, *lines: str, path: str = PLAIN, method: str = "POST", sign: bool = True) -> bytes:
    """The same, which says how long its body is."""
    return request(body, f"Content-Length: {len(body)}", *lines, path=path, method=method, sign=sign)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answer)]


@contextmanager
def connected(door: Ingress, count: int, *, at_once: int = 200) -> Iterator[list[socket.socket]]:
    """``count`` connections that were asked for, whether they have come about or not; none of them blocks."""
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            one = socket.socket()
            opened.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.setblocking(False)
            one.connect_ex(address(door))
            if number % at_once == at_once - 1:
                time.sleep(0.02)  # a queue of the kernel's is being filled, and dropping would only take longer
        yield opened
    finally:
        for one in opened:
            one.close()


def sent(connections: Iterable[socket.socket], data: bytes) -> int:
    """Send to each what it takes now; bytes that went."""
    total = 0
    for one in connections:
        try:
            total += one.send(data)
        except OSError:
            continue  # full, not connected yet, or cut
    return total


def answers(
    door: Ingress, requests: Sequence[bytes], silent: Sequence[int] = (), deadline: float = DEADLINE
) -> list[bytes]:
    """What each of ``requests`` gets on a connection of its own, all at once: to the connection's end, or as far as it
    has come when all but the ``silent`` ones have an answer or have ended."""
    got = [b""] * len(requests)
    ended: set[int] = set()
    with connected(door, len(requests)) as connections:
        numbers = {one.fileno(): number for number, one in enumerate(connections)}
        for one, data in zip(connections, requests, strict=True):
            one.setblocking(True)
            one.settimeout(deadline)
            try:
                one.sendall(data)
            except OSError:
                continue  # it was answered and closed before all of it was there
        end = time.monotonic() + deadline
        while open_ones := [one for one in connections if numbers[one.fileno()] not in ended]:
            waiting = [n for n in numbers.values() if n not in ended and n not in silent and not statuses(got[n])]
            ready = select_readable(open_ones, 0.3 if not waiting else max(0.0, end - time.monotonic()))
            if not ready:
                break
            for one in ready:
                number = numbers[one.fileno()]
                try:
                    part = one.recv(65536)
                except OSError:
                    part = b""
                got[number] += part
                if not part:
                    ended.add(number)
    return got


def select_readable(connections: Sequence[socket.socket], timeout: float) -> list[socket.socket]:
    poll = select.poll()
    by_number = {one.fileno(): one for one in connections}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout * 1000)]


def good(door: Ingress, numbers: Iterable[int]) -> list[bytes]:
    """A good client's deliveries, each on a new connection and each accepted; their bodies."""
    bodies = []
    for number in numbers:
        body = event("good", number)
        with httpx.Client(base_url=door.http.base_url, timeout=PATIENCE, verify=False) as http:
            assert http.post(PLAIN, content=body, headers=signed(body)).status_code == 202
        bodies.append(body)
    return bodies


def room_for(connections: int) -> int:
    """So many as this process may open, up to ``connections``, having raised its limit as far as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 500
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - 500)


def unharmed(door: Ingress) -> None:
    """It runs, says nothing of an error, and its log has a few lines, whatever was done to it."""
    assert door.process.running, door.process.output[-2000:]
    for word in ("Traceback", '"error"', "request_failed", "panicked"):
        assert word not in door.process.output, door.process.output[-2000:]
    assert door.process.output.count("\n") < 100
