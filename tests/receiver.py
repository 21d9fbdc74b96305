"""An HTTP server on loopback that keeps what it gets and answers as it is told, in raw bytes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

NAME = "far-side.test"
CERTIFICATE = Path(__file__).parent / "data" / "far-side.test.pem"
"""For that name, with its key, by nobody but itself."""

Act = bytes | Callable[[socket.socket], None]
"""What to answer: bytes, or what to do with the connection, which is closed then."""


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


OK = answer(204)


@dataclass
class Receiver:
    """``script`` is what the next requests are answered with; after it, ``OK``."""

    tls: bool = False
    script: list[Act] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    """Asked for by TLS (SNI)."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._ended = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if self.tls else None
        if self._context is not None:
            self._context.load_cert_chain(CERTIFICATE)
            self._context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._socket.close()

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def hang(self, _connection: socket.socket) -> None:
        """Says nothing until the server ends."""
        self._ended.wait(20)

    def endless(self, head: bytes, part: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
        """After ``head``, ``part`` again and again."""

        def send(connection: socket.socket) -> None:
            connection.sendall(head)
            while not self._ended.wait(pause):
                connection.sendall(part)

        return send

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while (request := _read(connection)) is not None:
                    self.requests.append(request)
                    act = self.script.pop(0) if self.script else OK
                    if not isinstance(act, bytes):
                        act(connection)
                        return
                    connection.sendall(act)
        except OSError:
            connection.close()  # the client has gone


def _read(connection: socket.socket) -> Request | None:
    got = b""
    while b"\r\n\r\n" not in got:
        if not (part := connection.recv(65536)):
            return None
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Request(line, headers, body)
