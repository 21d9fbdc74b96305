"""``uvicorn tests.bench.doors.fastapi_app:app``."""

from __future__ import annotations

import os

import redis.asyncio
from fastapi import FastAPI, Request, Response

from ingress.signature import HEADER
from tests.bench.contenders.celery_app import as_it_comes
from tests.bench.doors import BY_TASK, URL, inbox_of, is_signed

app = FastAPI()
client = redis.asyncio.Redis.from_url(URL)
by_task = bool(os.environ.get(BY_TASK))


@app.post("/webhooks/inbox")
async def receive(request: Request) -> Response:
    body = await request.body()
    if not is_signed(request.headers.get(HEADER), body):
        return Response(status_code=401)
    if by_task:
        as_it_comes.delay(body.decode())
    else:
        await client.xadd(inbox_of(body), {"b": body})
    return Response(status_code=202)
