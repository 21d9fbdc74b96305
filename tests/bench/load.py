"""A lean HTTP client for load: ``python -m tests.bench.load HOST:PORT FILE CONNECTIONS [GO [TIMES [RATE]]]``.

FILE holds whole requests, made beforehand, each with its length as four bytes before it; they are sent TIMES times.
Every connection is kept alive, sends one request and waits for the answer before the next. RATE is 0, for as fast as
answers come, or requests a second: then each is due at its time, whether or not others have been answered, and it is
from that time on that it waits. Writes one line of JSON when done: see ``Load``.

Plain sockets and epoll: a request costs 7 to 9 us of processor time, nearly all of it the kernel's, where asyncio with
uvloop takes 12. What is measured shares the machine with this, so every microsecond here is missing there.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path

CONNECTIONS = 64
_LENGTH = struct.Struct(">I")
_CHUNK = 65536


@dataclass(frozen=True)
class Load:
    """``began`` is ``time.perf_counter()`` (on Linux one clock for all processes) at the first request, ``seconds``
    from there to the last answer; ``statuses`` counts the answers by status, ``p50`` and ``p99`` are their seconds,
    ``cpu`` the processor seconds of the client."""

    began: float
    seconds: float
    statuses: dict[str, int]
    p50: float = 0.0
    p99: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return sum(self.statuses.values()) / self.seconds


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def write_requests(file: Path, requests: Iterable[bytes]) -> None:
    with file.open("wb") as stream:
        for request in requests:
            stream.write(_LENGTH.pack(len(request)) + request)


def run_load(address: str, file: Path, connections: int = CONNECTIONS, *, times: int = 1, rate: float = 0.0) -> Load:
    """Send what is in ``file`` from a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.load",
        address,
        str(file),
        str(connections),
        "",
        str(times),
        str(rate),
    ]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=root)
    return Load(**json.loads(ended.stdout))


class Client:
    """Sends ``requests`` over its connections, and counts what comes back."""

    def __init__(self, host: str, port: int, connections: int, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._open = {one.fileno(): one for one in (_connected(host, port) for _ in range(connections))}
        self._poll = select.epoll()
        for number in self._open:
            self._poll.register(number, select.EPOLLIN)
        self._due = dict.fromkeys(self._open, 0.0)  # when the request under way was due, by connection
        self._parts: dict[int, bytes] = {}  # of answers that have not come whole
        self.statuses: Counter[bytes] = Counter()
        self.waits: list[float] = []

    def run(self, rate: float) -> tuple[float, float]:
        """When it began, and how many seconds it took."""
        began = time.perf_counter()
        if rate:
            self._paced(began, rate)
        else:
            self._at_once()
        return began, time.perf_counter() - began

    def _at_once(self) -> None:
        busy = 0
        for number in list(self._open):
            busy += self._send(number, time.perf_counter())
        while busy:
            for number, _ in self._poll.poll():
                if self._answered(number):
                    busy -= 1
                    if number in self._open:
                        busy += self._send(number, time.perf_counter())

    def _paced(self, began: float, rate: float) -> None:
        free, sent, more = list(self._open), 0, True
        while more or len(free) < len(self._open):
            now = time.perf_counter()
            while more and free and (due := began + sent / rate) <= now:
                more = self._send(free[-1], due)
                if more:
                    free.pop()
                    sent += 1
            # Where all are busy the next one is late, and its wait has begun.
            pause = max(0.0, began + sent / rate - now) if more and free else None
            for number, _ in self._poll.poll(pause):
                if self._answered(number) and number in self._open:
                    free.append(number)

    def _send(self, number: int, due: float) -> bool:
        request = next(self._requests, None)
        if request is None:
            return False
        self._due[number] = due
        self._open[number].sendall(request)
        return True

    def _answered(self, number: int) -> bool:
        """Read what has come; whether an answer is complete now, or will never be."""
        data = self._open[number].recv(_CHUNK)
        if not data:
            self.statuses[b"lost"] += 1
            self._poll.unregister(number)
            self._open.pop(number).close()
            return True
        if self._parts:
            data = self._parts.pop(number, b"") + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data[:head]):
            self._parts[number] = data
            return False
        self.statuses[data[9:12]] += 1
        self.waits.append(time.perf_counter() - self._due[number])
        return True


def _connected(host: str, port: int) -> socket.socket:
    made = socket.create_connection((host, port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(head[at + 17 :].partition(b"\r\n")[0])


def _read(file: Path) -> Iterator[bytes]:
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def ready_for(go: Path) -> Path:
    """The file that says that the sender is connected, and waits for ``go``."""
    return go.with_suffix(".ready")


def main(address: str, file: str, connections: str, go: str = "", times: str = "1", rate: str = "0") -> None:
    """With ``go``, it says that it is ready, and begins when there is a file of that name: nobody's start-up is
    measured."""
    host, _, port = address.partition(":")
    requests = list(_read(Path(file)))
    client = Client(host, int(port), int(connections), chain.from_iterable(repeat(requests, int(times))))
    if go:
        ready_for(Path(go)).touch()
    while go and not Path(go).exists():
        time.sleep(0.001)
    spent = _cpu()
    began, seconds = client.run(float(rate))
    spent = _cpu() - spent
    waits = sorted(client.waits)
    p50, p99 = (waits[int(len(waits) * share)] if waits else 0.0 for share in (0.5, 0.99))
    statuses = {status.decode(): count for status, count in client.statuses.items()}
    print(json.dumps(asdict(Load(began, seconds, statuses, p50, p99, spent))))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
