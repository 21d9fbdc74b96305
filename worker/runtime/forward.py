"""Sends changes on to tasks of other Celery applications, for ``worker.route``."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from worker.api import Context
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import Forward
from worker.settings import Settings


def forwarder(settings: Settings, forward: Forward) -> Callable[[AssigneeChange | Event, Context], None]:
    """A handler function that sends its argument as plain JSON to ``forward.task``.

    The application it sends through is made here and knows nothing but the broker: the far side's queues have their
    own names, without the prefix that the doorbells' have. A broker that is away raises, and the job is retried.
    """
    application = Celery("handoff-forward", broker=forward.broker or settings.broker, set_as_current=False)
    application.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        task_publish_retry=False,
        broker_transport_options={"socket_timeout": 5.0, "socket_connect_timeout": 3.0},
    )

    def send(subject: AssigneeChange | Event, ctx: Context) -> None:
        payload = subject.as_dict() if isinstance(subject, AssigneeChange) else subject.document
        application.send_task(
            forward.task, args=[payload], queue=forward.queue, task_id=ctx.idempotency_key, ignore_result=True
        )

    return send
