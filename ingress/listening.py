"""The socket that the ingress listens on: its own, or one that it is handed and hands on.

``HANDOFF_BIND`` is an address that nobody else may listen on: a second ingress, started by mistake, would silently
take half of the first one's requests. So a restart there is a moment without anybody at the door. Whoever can't have
that runs two ingresses behind a proxy, or has a supervisor hold the socket: systemd does (socket activation,
sd_listen_fds(3): the socket is descriptor 3, and ``LISTEN_PID`` and ``LISTEN_FDS`` say so). It stays open while one
process ends and the next begins, and the kernel keeps connections for whoever comes to accept them.

Accepting has to end before connections are closed, or one that was accepted a moment ago is closed before it was read.
The HTTP server does both at once. But the descriptor is ours: with a socket under it to which nobody connects, there is
nothing to accept any more, and what comes from then on is the next process's.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from worker.errors import ConfigurationError
from worker.settings import Settings

BACKLOG: Final = 2048  # connections that the kernel holds until they are accepted
FIRST_INHERITED: Final = 3
_BIND_PROBLEMS: Final = {
    errno.EADDRINUSE: "is in use by another process",
    errno.EADDRNOTAVAIL: "is no address of this machine",
    errno.EACCES: "may only be listened on by the administrator",
}


class Listener:
    """A listening socket, of which nothing is closed but by ``stop_accepting``: the HTTP server has it."""

    def __init__(self, listening: socket.socket) -> None:
        self.port = int(listening.getsockname()[1])
        host = str(listening.getsockname()[0])
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.host = host
        listening.setblocking(False)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts takes that over
        self.descriptor = listening.detach()

    def stop_accepting(self) -> None:
        """Leave connections that come from now on to others who have this socket, if there are any."""
        with socket.create_server(("127.0.0.1", 0), backlog=1) as nobodys:
            nobodys.setblocking(False)
            os.dup2(nobodys.fileno(), self.descriptor)


def listen(settings: Settings) -> Listener:
    """The socket that we were handed, or one at ``HANDOFF_BIND``; port 0 becomes a free one.

    Raises ``ConfigurationError``.
    """
    return Listener(_inherited() or _bound(settings))


def _inherited() -> socket.socket | None:
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise ConfigurationError("LISTEN_FDS", f"{count} sockets were handed over, and one is listened on")
    try:
        handed = socket.socket(fileno=FIRST_INHERITED)
        is_tcp = handed.family in {socket.AF_INET, socket.AF_INET6} and handed.type == socket.SOCK_STREAM
        if is_tcp and handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return handed
        handed.detach()
    except OSError:
        pass  # no socket at all: what is said below is all there is to say of it
    raise ConfigurationError("LISTEN_FDS", "what was handed over is no listening TCP socket", "ListenStream=host:port")


def _bound(settings: Settings) -> socket.socket:
    host, port = settings.host_and_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigurationError("HANDOFF_BIND", f"{host} is no known host", "127.0.0.1:8000 for instance") from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        problem = _BIND_PROBLEMS.get(error.errno or 0, error.strerror or "can't be listened on")
        raise ConfigurationError("HANDOFF_BIND", f"{settings.bind} {problem}", "choose another") from None
    return made
