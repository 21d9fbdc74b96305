"""``gunicorn tests.bench.doors.flask_app:app``."""

from __future__ import annotations

import os

import redis
from flask import Flask, Response, request

from ingress.signature import HEADER
from tests.bench.contenders.celery_app import as_it_comes
from tests.bench.doors import BY_TASK, URL, inbox_of, is_signed

app = Flask(__name__)
client = redis.Redis.from_url(URL)
by_task = bool(os.environ.get(BY_TASK))


@app.post("/webhooks/inbox")
def receive() -> Response:
    body = request.get_data()
    if not is_signed(request.headers.get(HEADER), body):
        return Response(status=401)
    if by_task:
        as_it_comes.delay(body.decode())
    else:
        client.xadd(inbox_of(body), {"b": body})
    return Response(status=202)
