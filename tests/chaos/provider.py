"""Behaves like the provider (PROVIDER.md 1): posts each delivery, and tries again whatever was refused or not answered.

It knows nothing of what the far side stores: a delivery that timed out is sent again, whether it was stored or not.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from ingress.signature import HEADER, sign
from tests.chaos.history import Message, Post
from tests.chaos.workload import Posting

PATIENCE: Final = 3.0  # seconds for an answer
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 4.0
FINAL: Final = frozenset((202, 400, 401, 404, 405, 413))
"""Answers after which it does not try again: another try would get the same."""


class Load(Protocol):
    """What to send. ``ends``: when the last delivery is sent for the first time, in seconds after the start."""

    @property
    def ends(self) -> float: ...

    def postings(self) -> Iterator[Posting]:
        """By time."""


class Provider:
    """Posts a load in a thread, from ``start`` on; each delivery is given up ``patience`` seconds after the last one
    was to be sent."""

    def __init__(self, workload: Load, urls: Sequence[str], secret: bytes, *, seed: int, patience: float) -> None:
        self.posts: list[Post] = []
        self._workload = workload
        self._urls = urls
        self._secret = secret
        self._rng = random.Random(f"provider {seed}")
        self._patience = patience
        self._thread = threading.Thread(target=self._post_all, daemon=True, name="provider")
        self._error: BaseException | None = None
        self.began = 0.0

    @property
    def load_ends(self) -> float:
        """When the last delivery is sent for the first time."""
        return self.began + self._workload.ends

    def keep(self, post: Post) -> None:
        """Called with each post once it has its answer, or has got none."""
        self.posts.append(post)

    def start(self) -> None:
        self.began = time.monotonic()
        self._thread.start()

    def join(self) -> None:
        """Until everything has its last answer, or was given up. Raises what has ended it before that."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _post_all(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        tasks = set()
        for posting in self._workload.postings():
            await asyncio.sleep(max(0.0, self.began + posting.at - time.monotonic()))
            tasks.add(task := asyncio.create_task(self._deliver(posting)))
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)

    async def _deliver(self, posting: Posting) -> None:
        message, pause, ingress = posting.message, FIRST_PAUSE, posting.ingress
        while True:
            post = await self._post(message, ingress)
            self.keep(post)
            if post.status in FINAL or post.answered > self.load_ends + self._patience:
                return
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)
            ingress = (ingress + 1) % len(self._urls)

    async def _post(self, message: Message, ingress: int) -> Post:
        sent = time.monotonic()
        signature = None if message.kind == "unsigned" else sign(message.body, self._secret, int(time.time()))
        try:
            async with asyncio.timeout(PATIENCE):
                status = await _status(self._urls[ingress], message.body, signature)
        except (OSError, TimeoutError):
            status = 0
        return Post(message.key, sent, time.monotonic(), status, ingress)


async def _status(url: str, body: bytes, signature: str | None) -> int:
    """Post on a connection of its own; the answer's status. Raises ``OSError`` if none comes.

    No pool of connections: one that clogs after a time-out would look like a front door that answers nobody.
    """
    address = urlsplit(url)
    lines = ["POST /webhooks/inbox HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json", "Connection: close", *([f"{HEADER}: {signature}"] if signature else [])]
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        answer = (await reader.readline()).split()
        if len(answer) < 2:
            raise ConnectionError("it was closed without an answer")
        return int(answer[1])
    finally:
        writer.transport.abort()
