"""Tells systemd that a worker is well, for a unit with ``WatchdogSec=``: without it for so long, systemd kills and
restarts the worker (sd_notify(3), systemd.service(5)). So the watchdog, too, is watched."""

from __future__ import annotations

import os
import socket


def say_well() -> None:
    """Does nothing where systemd is not waiting to hear it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or "WATCHDOG_USEC" not in os.environ:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(b"WATCHDOG=1", address)
        except OSError:
            return  # what systemd misses it acts on
