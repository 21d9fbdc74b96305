"""A connection of the ingress's without a socket: what is fed to it, and what it says, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ingress.answers import Answer, refusal
from ingress.connections import Connections
from ingress.http1 import Connection
from ingress.metrics import Metrics
from ingress.parsing import Request

MAX_BODY = 200_000
TOO_LARGE = refusal(413, "body_too_large", "")


class Transport(asyncio.Transport):
    """What a connection does to its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.reading = True
        self.ended = ""  # by close, abort or eof
        self.protocol: Connection | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.sent.append(bytes(data))

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def is_closing(self) -> bool:
        return self.ended in ("close", "abort")

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def statuses(self) -> list[int]:
        return [int(part[9:12]) for part in self.sent]


class Application:
    """Keeps requests, and answers those for ``/later`` when it is told to, all others at once with 200."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.later: list[Callable[[Answer], None]] = []
        self.broke: list[bytes] = []

    def handle(self, request: Request, answer: Callable[[Answer], None]) -> Answer | None:
        self.asked.append((request.method, request.target, bytes(request.body)))
        if request.target == b"/fails":
            raise ZeroDivisionError
        if request.target == b"/later":
            self.later.append(answer)
            return None
        return request.refused or Answer(200, "ok", [], b"ok")

    def broken(self, request: Request) -> None:
        self.broke.append(request.target)


class House:
    """Connections of one application; for use within a running loop."""

    def __init__(self, most: int = 4) -> None:
        self.application = Application()
        self.metrics = Metrics()
        self.connections = Connections(most, MAX_BODY, TOO_LARGE, self.metrics)
        self.connections.application = self.application

    def connect(self) -> tuple[Connection, Transport]:
        self.connections._count += 1
        connection, transport = Connection(self.connections), Transport()
        connection.connection_made(transport)
        return connection, transport


def request(target: str = "/", body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    length = [f"content-length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: h", *length, *lines, "", ""]).encode() + body
