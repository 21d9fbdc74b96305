"""The Celery application: ``celery -A worker worker`` finds it here.

An operator's mistake in the settings or the handlers ends the start with one line. Celery would turn an exception
into a page of traceback; SystemExit it lets through.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_before_create_process,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from worker import lean  # noqa: F401 - before anything imports structlog
from worker.errors import ConfigurationError, StoreUnavailable
from worker.ops import logs
from worker.ops.strays import strays
from worker.runtime import allocator, process, shutdown, transport
from worker.runtime.config import celery_config
from worker.runtime.registry import load_handlers
from worker.runtime.sweeper import SweeperStep
from worker.runtime.tasks import register
from worker.runtime.watchdog import WatchdogStep
from worker.settings import load_settings, variables
from worker.store.client import connect
from worker.store.installation import announce_handlers, fix_partitions, load_scripts


def _create() -> Celery:
    allocator.be_frugal()
    settings = load_settings()
    registry = load_handlers(settings)
    transport.install()
    celery = Celery("handoff", set_as_current=True)
    celery.config_from_object(celery_config(settings, registry))
    register(celery, registry)
    celery.steps["worker"].add(SweeperStep)
    celery.steps["worker"].add(WatchdogStep)
    return celery


def _stop(error: ConfigurationError) -> SystemExit:
    print(f"handoff: {error}", file=sys.stderr, flush=True)  # noqa: T201 - logging is not set up, nor wanted here
    return SystemExit(2)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logging(**_: Any) -> None:
    logs.configure(load_settings())


worker_before_create_process.connect(allocator.keep_shared)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell(how: str, **_: Any) -> None:
    """In the signal handler, before Celery does anything: every process of the pool begins to end now."""
    shutdown.announce(cold=how == "Cold")


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end_well(**_: Any) -> None:
    """Calls that go on without a place in the pool are waited for, as Celery waits for those that have one."""
    process.let_linger()


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _check_installation(**_: Any) -> None:
    """Before anything runs: does this worker agree with the others about the partitions?"""
    shutdown.open_notice()
    settings = load_settings()
    try:
        client = connect(settings, timeout=2.0)
        fix_partitions(client, settings)
        announce_handlers(client, settings, [spec.describe() for spec in load_handlers(settings).values()])
        load_scripts(client, settings)
        client.close()
        lines = list(strays(variables()))
        if "REMAP_SIGTERM" in os.environ:
            lines += ["REMAP_SIGTERM: SIGTERM cuts calls off at once (unset it: HANDOFF_GRACE is their time)"]
        for line in lines:
            print(f"handoff: {line}", file=sys.stderr, flush=True)  # noqa: T201
    except ConfigurationError as error:
        raise _stop(error) from None
    except StoreUnavailable as error:
        # Not a reason to exit: it may come back, and the sweeper makes the same check as soon as it has.
        print(f"handoff: HANDOFF_REDIS_URL: {error}; waiting for it", file=sys.stderr, flush=True)  # noqa: T201


try:
    app = _create()
except ConfigurationError as error:
    raise _stop(error) from None
