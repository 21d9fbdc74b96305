"""Who is at the keyboard, for the record of what was done."""

from __future__ import annotations

import getpass
import socket


def who() -> str:
    """``login@host``; a login that can't be had (a container's bare user id) is ``?``."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "?"
    return f"{name}@{socket.gethostname()}"
