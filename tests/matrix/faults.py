"""The faults. Each is done to a running cell and returns when the server is whole again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from typing import Final

from tests.matrix.rig import Rig

Fault = Callable[[Rig, float], None]
"""Given the cell, and how much of its usual time the fault may take: 1 is all of it."""


def kill_for(seconds: float) -> Fault:
    def fault(rig: Rig, share: float) -> None:
        rig.server.kill()
        time.sleep(seconds * share)
        rig.server.start()

    return fault


def stop_for(seconds: float) -> Fault:
    def fault(rig: Rig, share: float) -> None:
        rig.server.signal(signal.SIGSTOP)
        time.sleep(seconds * share)
        rig.server.signal(signal.SIGCONT)

    return fault


def client_kill(rig: Rig, _share: float) -> None:
    """Every connection, those that wait for commands of Celery's remote control too."""
    for kind in ("normal", "pubsub"):
        rig.server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def client_kill_in_a_row(rig: Rig, share: float) -> None:
    for _ in range(8):
        client_kill(rig, share)
        time.sleep(0.3)


def half_open(rig: Rig, _share: float) -> None:
    """Nothing passes on the connections that the worker has, and nobody says so."""
    rig.proxy.black_hole_live()


def read_only(rig: Rig, share: float) -> None:
    """As a primary that was demoted: a replica of nobody who answers."""
    rig.server.command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(8 * share)
    rig.server.command("REPLICAOF", "NO", "ONE")


def out_of_memory(rig: Rig, share: float) -> None:
    rig.server.command("CONFIG", "SET", "maxmemory", "1")
    time.sleep(8 * share)
    rig.server.command("CONFIG", "SET", "maxmemory", "0")


_ENVELOPE: Final = {
    "body": "W1swXSwge30sIHt9XQ==",  # [[0], {}, {}]
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"lang": "py", "task": "handoff.sequence", "id": "one"},
    "properties": {
        "delivery_tag": "one",
        "delivery_info": {"exchange": "", "routing_key": "handoff.sequence"},
        "body_encoding": "base64",
    },
}


def _but(**changes: object) -> str:
    return json.dumps({**_ENVELOPE, **changes})


def _headers(**changes: object) -> str:
    headers: Mapping[str, object] = {"lang": "py", "task": "handoff.sequence", "id": "one", **changes}
    return _but(headers=headers)


def _properties(**changes: object) -> str:
    return _but(properties={**_ENVELOPE["properties"], **changes})  # type: ignore[dict-item]


POISON: Final = (
    *(b"garbage", b"", b"\xff\xfe", b"[]", b"{}", b"null", b"5", b"[" * 10_000),
    b'{"__type__": "decimal", "__value__": "x"}',
    *(_but(headers=value).encode() for value in (None, [], 5, {}, {"task": []})),
    *(_but(properties=value).encode() for value in (None, [], {}, {"delivery_tag": "x"})),
    *(
        _but(body=value).encode()
        for value in ("", "!", 5, None, "W10=", "NQ==", "bnVsbA==", "e30=", "W1tdLCB7fSwgW11d")
    ),
    _but(**{"content-type": "application/x-python-serialize"}).encode(),
    _but(**{"content-encoding": "klingon"}).encode(),
    *(_properties(delivery_tag=value).encode() for value in ([], None)),
    *(_properties(delivery_info=value).encode() for value in (None, 5, {}, [])),
    _properties(body_encoding="rot13").encode(),
    *(_headers(task=value).encode() for value in ("nobody.knows", "handoff.run.gone", "celery.backend_cleanup", 5, "")),
    *(_headers(id=value).encode() for value in ([], None, {})),
    *(_headers(eta=value).encode() for value in ("yesterday", 5, [], "9999-12-31T23:59:59+00:00")),
    *(_headers(timelimit=value).encode() for value in (5, [1], "x")),
    *(_headers(expires=value).encode() for value in ([], "never")),
    *(_headers(stamped_headers=value).encode() for value in (5, [[]])),
)
"""What no doorbell looks like, from no JSON at all to what Celery would have believed."""


def poison(rig: Rig, _share: float) -> None:
    key = f"{rig.settings.prefix}:broker:handoff.sequence"
    for element in POISON:
        rig.server.command("RPUSH", key, element)  # type: ignore[arg-type]  # where the next to be taken is


FAULTS: Final[Mapping[str, Fault]] = {
    "killed for 3 s": kill_for(3),
    "killed for 20 s": kill_for(20),
    "CLIENT KILL": client_kill,
    "CLIENT KILL 8 times": client_kill_in_a_row,
    "stopped for 15 s": stop_for(15),
    "half-open": half_open,
    "READONLY": read_only,
    "out of memory": out_of_memory,
    "poison": poison,
}
