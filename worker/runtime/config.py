"""Celery's configuration. Each choice was measured under faults; the reasons stand beside them."""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue

from worker.core.handlers import Registry
from worker.doorbell import DELIVER_QUEUE, SEQUENCE_QUEUE, SEQUENCE_TASK, broker_ssl, run_task, transport_options
from worker.runtime import consumer
from worker.settings import Settings


def celery_config(settings: Settings, registry: Registry) -> dict[str, Any]:
    """The whole configuration of the app."""
    names = dict.fromkeys([SEQUENCE_QUEUE, DELIVER_QUEUE, *(spec.queue for spec in registry.values())])
    return {
        "broker_url": settings.broker,
        "broker_transport_options": transport_options(settings),
        "broker_use_ssl": broker_ssl(settings),
        # Come back from anything: a broker that is away, for however long, or one that refuses for a while.
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "worker_consumer": consumer.NAME,  # and soon
        # Doorbells carry nothing and may be lost: no results, no redelivery. Acknowledged late all the same, for that
        # is what prefetching counts: acknowledged early, a worker whose processes are all in slow calls takes a bell
        # for each of them in advance, and an idle worker next to it gets none until the sweeper rings again (2.3 s
        # measured, 0.03 s like this).
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        # Celery kills a process of its pool that is not up after four seconds, and starts another, which takes as long:
        # on a machine that is as busy as that, nothing is ever done (ten in a row were seen).
        "worker_proc_alive_timeout": 60.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # JSON and nothing else: a broker that others can write to must not be able to run code here.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Nobody reads events; each would be another command per task.
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "task_track_started": False,
        # Queues are the named ones: a typing error must not make a queue that nobody reads.
        "task_create_missing_queues": False,
        "task_default_queue": DELIVER_QUEUE,
        "task_queues": [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in names],
        "task_routes": {
            SEQUENCE_TASK: {"queue": SEQUENCE_QUEUE},
            **{run_task(spec.name): {"queue": spec.queue} for spec in registry.values()},
        },
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }
