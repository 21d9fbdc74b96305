"""The ingress's own HTTP server with nothing behind it: ``python -m tests.bench.doors.empty HOST:PORT``.

The same bodies are sent to it as to the ingress, and it reads them, as everyone who answers a POST has to; a GET has
none.
"""

from __future__ import annotations

import socket
import sys

import uvloop

from ingress.app import Exchange, Scope
from ingress.connections import MOST
from ingress.listening import BACKLOG, Listener
from ingress.serve import http_server, settle_memory


class Nothing:
    """Answers whatever it is asked with 204."""

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        if scope.method == "POST":
            await exchange()
        exchange.response_empty(204, [])


async def serve(host: str, port: int) -> None:
    listener = Listener(socket.create_server((host, port), backlog=BACKLOG))
    settle_memory()
    await http_server(Nothing(), listener, MOST).serve()


if __name__ == "__main__":
    address, _, number = sys.argv[1].partition(":")
    uvloop.run(serve(address, int(number)))
