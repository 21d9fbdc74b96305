"""Exit code 0 if the ingress of this container answers ``/healthz``, else 1. Only the standard library: no curl needed.

With ``worker`` as its argument: 1 if a worker of this container gets nothing done, by ``handoff doctor --worker``. A
state server that can't be asked is no fault of the worker's, and no reason to start another.

Reads ``HANDOFF_BIND`` as the ingress does; an address that means "all" is asked on loopback. No proxy is ever used.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys

TIMEOUT = 3.0  # seconds; the HEALTHCHECK's own time-out is longer, so that it is this line that gives up

LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 - asked, not bound


def main() -> int:
    host, _, port = os.environ.get("HANDOFF_BIND", "127.0.0.1:8000").rpartition(":")
    host = LOOPBACK.get(host, host).strip("[]")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


def worker() -> int:
    probe = subprocess.run([sys.executable, "-m", "worker.ops.cli", "doctor", "--worker"], check=False)
    return 1 if probe.returncode == 1 else 0


if __name__ == "__main__":
    sys.exit(worker() if sys.argv[1:] == ["worker"] else main())
