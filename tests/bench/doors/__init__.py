"""Front doors of others: what people write who receive webhooks with a framework, and the same server doing nothing.

Each checks the signature over the same bytes with the same code, finds the same partition of the same stream, and
answers 202 when the server has confirmed its write, or Celery's broker the task. One process each, as the ingress is.
"""

from __future__ import annotations

import os
import time
from typing import Final

from ingress.signature import Verdict, verify
from worker.core.envelope import team_of
from worker.store.keys import PartitionKeys, partition_of

PREFIX: Final = "handoff"
PARTITIONS: Final = 16
URL: Final = os.environ.get("BENCH_REDIS_URL", "redis://")
BY_TASK: Final = "BENCH_BY_TASK"
"""Set: a Celery task for each request, in place of the write."""
MAX_AGE: Final = 3600.0
_SECRETS: Final = (os.environ.get("BENCH_SECRET", "").encode(),)
_INBOXES: Final = tuple(PartitionKeys(PREFIX, number).inbox for number in range(PARTITIONS))


def is_signed(signature: str | None, body: bytes) -> bool:
    return verify(signature, body, _SECRETS, now=time.time(), max_age=MAX_AGE) is Verdict.OK


def inbox_of(body: bytes) -> str:
    """The stream that the body belongs in."""
    team = team_of(body, None)
    return _INBOXES[0 if team is None else partition_of(team, PARTITIONS)]
