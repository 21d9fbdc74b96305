"""What messages are sent to: a web server and a mail server on loopback, which may also behave badly."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"") -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def cut(request: BaseHTTPRequestHandler) -> None:
    """Hang up in the middle of the answer's first line."""
    request.wfile.write(b"HTTP/1")
    request.close_connection = True


class Web:
    """Notes each JSON posted to it as (path, body). ``answers``: by path, how, in turn; the last one stays."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answers: dict[str, list[Answer]] = {}
        self.let_go = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.got.append((self.path, body))
                answers = web.answers.get(self.path.partition("?")[0], [status(200)])
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        """Answer nothing until the test is over."""
        self.let_go.wait(30)
        request.close_connection = True

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def at(self, path: str) -> list[Any]:
        """What was posted to a path."""
        return [body for where, body in self.got if where.partition("?")[0] == path]


class Mail:
    """Takes every mail, or with ``refuses`` none of those to that address. Notes (recipient, text)."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.refuses = ""
        mail = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 sink")
                to = ""
                while line := self.rfile.readline().decode().strip():
                    verb = line[:4].upper()
                    if verb == "RCPT":
                        to = line.partition("<")[2].partition(">")[0]
                        self.say("550 nobody of that name" if to == mail.refuses else "250 ok")
                    elif verb == "DATA":
                        self.say("354 go on")
                        text = b"".join(iter(self.rfile.readline, b".\r\n"))
                        mail.got.append((to, text.decode()))
                        self.say("250 taken")
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Session)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
