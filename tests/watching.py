"""What the users of a server really do there: every command, the keys it names, the scripts that ran.

MONITOR tells of each command, those inside of scripts too, but for a few that it keeps to itself (CONFIG, for one); the
server's own counts have those. Whoever watches does nothing else on the server but through ``client``, whose commands
are left out.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from tests.processes import until
from worker.store import scripts

_LINE: Final = re.compile(rb"^\+?[\d.]+ \[\d+ (\S+)\] (.*)$", re.DOTALL)
_WORD: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_QUOTED: Final = re.compile(r"'([A-Z]{3,})'")
_TWO: Final = re.compile(r"'([A-Z]+)', *'([A-Z]+)'")
_KEY: Final = "handoff:"
_END: Final = "nothing more is watched"
_OWN: Final = {"info", "config|resetstat", "monitor"}
_FREE: Final = {"auth", "hello", "quit", "reset"}
"""Commands that need no right: they are how one gets in, and out."""
_PARENTS: Final = {"client", "config", "script", "memory", "xinfo", "acl", "object", "cluster", "function", "pubsub"}


@dataclass
class Used:
    """``calls``: each command that was used, as rights name it (``config|get``), with the keys and channels among its
    words. ``ran``: the scripts, with their keys."""

    calls: set[tuple[str, frozenset[str]]] = field(default_factory=set)
    ran: dict[str, frozenset[str]] = field(default_factory=dict)


def commands_of(name: str, client: redis.Redis) -> set[str]:
    """The commands that a script calls, as rights name them: every word in capitals that the server knows as one."""
    text = scripts.source(name)
    found = {word.lower() for word in _QUOTED.findall(text)} & _known(client)
    parents = {(first.lower(), second.lower()) for first, second in _TWO.findall(text)}
    found -= {first for first, _ in parents if first in _PARENTS}
    return found | {f"{first}|{second}" for first, second in parents if first in _PARENTS}


def _known(client: redis.Redis) -> set[str]:
    answer: Any = client.command_list()
    return {name.decode() if isinstance(name, bytes) else name for name in answer}


def _name(command: str, word: str = "") -> str:
    command = command.lower()
    return f"{command}|{word.lower()}" if command in _PARENTS and word else command


@contextmanager
def watching(url: str, client: redis.Redis) -> Iterator[Used]:
    """Watch until the end of the ``with``, when the answer is filled. ``client`` has a single connection."""
    own = f"127.0.0.1:{_port(client)}"
    names = (*scripts.NAMES, *scripts.LOADED)
    digests = {hashlib.sha1(scripts.source(name).encode()).hexdigest(): name for name in names}
    used = Used()
    seen: list[bytes] = []
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 6379)) as monitor:
        client.config_resetstat()
        if parts.username:
            monitor.sendall(f"AUTH {parts.username} {parts.password}\r\n".encode())
        monitor.sendall(b"MONITOR\r\n")
        reader = threading.Thread(target=_read, args=(monitor, seen), daemon=True)
        reader.start()
        try:
            yield used
        finally:
            client.echo(_END)  # when this has been told, all before it has
            until(lambda: _END.encode() in b"".join(seen[-2:]), "everything has been told")
            counted: Any = client.info("commandstats")
            monitor.shutdown(socket.SHUT_RDWR)
            reader.join()
    shown, speaker = set(), own
    for line in b"".join(seen).split(b"\r\n"):
        found = _LINE.match(line)
        if not found:
            continue
        words = [_unescaped(word).decode(errors="replace") for word in _WORD.findall(found[2])]
        name = _name(*words[:2])
        shown.add(name)
        speaker = speaker if found[1] == b"lua" else found[1].decode()  # a script's come right after it was called
        if speaker != own and name not in _FREE:
            keys = frozenset(word for word in words[1:] if word.startswith(_KEY))
            used.calls.add((name, keys))
            if name == "evalsha" and words[1] in digests:
                used.ran[digests[words[1]]] = keys
    hidden = {name.removeprefix("cmdstat_") for name in counted} - shown - _OWN - _FREE
    used.calls |= {(name, frozenset()) for name in hidden}


def _port(client: redis.Redis) -> int:
    connection: Any = client.connection or client.connection_pool.get_connection()
    connection.connect()
    port: int = connection._sock.getsockname()[1]
    if client.connection is None:
        client.connection_pool.release(connection)
    return port


def _read(monitor: socket.socket, seen: list[bytes]) -> None:
    while part := monitor.recv(1 << 20):
        seen.append(part)


def _unescaped(word: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1][1:].decode()) if len(found[1]) == 3 else found[1], word)
