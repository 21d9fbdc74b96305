"""What Celery's pool is told, where its own choice would stop the work."""

from __future__ import annotations

from worker.runtime.config import celery_config
from worker.settings import Settings


def test_a_process_of_the_pool_has_a_minute_to_start() -> None:
    """Celery would kill it after four seconds, and each that it starts instead: on a busy machine nothing is done."""
    assert celery_config(Settings(), {})["worker_proc_alive_timeout"] >= 60
