"""A lean HTTP client for load: ``python -m tests.bench.load HOST:PORT FILE CONNECTIONS``.

FILE holds whole requests, made beforehand, each with its length as four bytes before it. Every connection is kept
alive, sends one request and waits for the answer before the next. Writes one line of JSON when done: see ``Load``.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 64
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Load:
    """``began`` is ``time.perf_counter()`` (on Linux one clock for all processes) at the first request, ``seconds``
    from there to the last answer; ``statuses`` counts the answers by status, ``p50`` and ``p99`` are their seconds."""

    began: float
    seconds: float
    statuses: dict[str, int]
    p50: float = 0.0
    p99: float = 0.0

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


def run_load(address: str, file: Path, connections: int = CONNECTIONS) -> Load:
    """Send what is in ``file`` from a process of its own."""
    command = [sys.executable, "-m", "tests.bench.load", address, str(file), str(connections)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=root)
    return Load(**json.loads(ended.stdout))


class Connection(asyncio.Protocol):
    """Sends the next of ``requests`` whenever an answer is complete; ``ended`` when there is none left."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[str], waits: list[float]) -> None:
        self._requests, self._statuses, self._waits = requests, statuses, waits
        self._sent = 0.0
        self._got = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            if not self.ended.done():
                self.ended.set_result(None)
            self._transport.close()
        else:
            self._sent = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        status = self._got[9:12].decode()
        if len(self._got) < head + 4 + _length(self._got[:head]):
            return
        self._got = b""
        self._statuses[status] += 1
        self._waits.append(time.perf_counter() - self._sent)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._statuses["lost"] += 1
            self.ended.set_result(None)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _read(file: Path) -> Iterator[bytes]:
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def ready_for(go: Path) -> Path:
    """The file that says that the sender is connected, and waits for ``go``."""
    return go.with_suffix(".ready")


async def _run(address: str, file: str, connections: str, go: str = "") -> Load:
    """With ``go``, it says that it is ready, and begins when there is a file of that name: nobody's start-up is
    measured."""
    host, _, port = address.partition(":")
    requests, statuses = iter(list(_read(Path(file)))), Counter[str]()
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Connection(requests, statuses, waits), host, int(port)))[1]
        for _ in range(int(connections))
    ]
    if go:
        ready_for(Path(go)).touch()
    while go and not Path(go).exists():  # noqa: ASYNC110, ASYNC240 - nothing else happens here
        await asyncio.sleep(0.001)
    began = time.perf_counter()
    for connection in made:
        connection.send()
    await asyncio.gather(*(connection.ended for connection in made))
    seconds = time.perf_counter() - began
    waits.sort()
    p50, p99 = (waits[int(len(waits) * share)] if waits else 0.0 for share in (0.5, 0.99))
    return Load(began, seconds, dict(statuses), p50, p99)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_run(*sys.argv[1:])))))
