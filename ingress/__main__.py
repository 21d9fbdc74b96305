"""``python -m ingress``: settings, logs, then ``serve``. A wrong setting is one line on stderr and exit code 2."""

from __future__ import annotations

import sys

import structlog
import uvloop

from ingress.serve import serve
from worker.errors import ConfigurationError
from worker.ops import logs
from worker.settings import load_settings


def main() -> int:
    try:
        settings = load_settings()
        logs.configure(settings)
        uvloop.run(serve(settings))
    except ConfigurationError as error:
        print(f"ingress: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    except KeyboardInterrupt:  # before serve() has taken the signal over
        return 130
    except Exception:  # noqa: BLE001 - the last place that can still log it
        structlog.get_logger(__name__).exception("ingress_failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
