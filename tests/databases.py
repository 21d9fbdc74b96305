"""A PostgreSQL of the tests' own, where its programs are installed: an optional neighbour, unlike the state server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers import free_port

MISSING = "there is no PostgreSQL here (initdb and postgres)"


def program(name: str) -> str | None:
    """Debian keeps them out of the way of PATH."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(kept[-1]) if kept else shutil.which(name)


def is_there() -> bool:
    return None not in (program("initdb"), program("postgres"), _user())


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh, empty one on a free port; yields its URL and takes it away afterwards."""
    user, port = _user(), free_port()
    with tempfile.TemporaryDirectory(prefix="handoff-postgres-") as folder:
        if user:
            shutil.chown(folder, user)
        data = str(Path(folder, "data"))
        initdb = [str(program("initdb")), "-D", data, "-U", "handoff", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            [*initdb, "--locale=C"], check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder, timeout=60
        )
        limits = ["-c", "fsync=off", "-c", "max_connections=30", "-c", "shared_buffers=16MB"]
        process = subprocess.Popen(
            [str(program("postgres")), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, *limits],
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        try:
            _wait_for(port)
            yield f"postgresql+psycopg://handoff@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_for(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="handoff", dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _user() -> str | None:
    """PostgreSQL refuses to run as root. "" would be as who runs the tests; None: nobody it could run as."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    return next((each.pw_name for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody")), None)
