"""Another team's Celery application, on a broker of its own: it knows nothing of Handoff."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from celery import Celery

app = Celery("far", broker=os.environ["FAR_BROKER"])
app.conf.update(task_default_queue="crm", worker_prefetch_multiplier=1)


@app.task(name="crm.tasks.push_owner", bind=True)
def push_owner(self: Any, change: dict[str, Any]) -> None:
    with redis.Redis.from_url(os.environ["SEEN"]) as client:
        client.rpush("seen", json.dumps([self.request.id, change["team_id"], change["seq"], change["assignee_id"]]))
