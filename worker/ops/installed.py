"""What commands look at: the installation that the settings name, without changing anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import redis

from worker.errors import StoreError, StoreUnavailable
from worker.ops.command_settings import command_settings
from worker.settings import Settings
from worker.store.client import COMMAND_TIMEOUT, RIGHTS, connect, describe, lacks_right, unavailable_as_error
from worker.store.installation import stored_partitions
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Installed:
    """``partitions`` is empty where nothing has ever started under this prefix on this server."""

    settings: Settings
    client: redis.Redis
    scripts: Scripts
    partitions: tuple[PartitionKeys, ...] = ()

    def again(self) -> Installed:
        """The same as it is now: it may have been started, or emptied, since. Raises as ``installed`` does."""
        count = stored_partitions(self.client, self.settings) or 0
        return replace(self, partitions=tuple(PartitionKeys(self.settings.prefix, number) for number in range(count)))

    def now(self) -> int:
        """Server ms. Raises ``StoreUnavailable``."""
        with unavailable_as_error():
            answer: tuple[int, int] = self.client.time()
        return answer[0] * 1000 + answer[1] // 1000


@contextmanager
def installed(*, timeout: float = COMMAND_TIMEOUT) -> Iterator[Installed]:
    """The installation. Raises ``ConfigurationError``, and ``StoreError`` for a server that can't be asked.

    What the body raises of the state server's errors comes out naming the setting, too.
    """
    settings = command_settings()
    with connect(settings, timeout=timeout) as client, named():
        yield Installed(settings, client, Scripts(client)).again()


@contextmanager
def named() -> Iterator[None]:
    """Gives errors of the state server the setting to look at, and the remedy where there is one."""
    try:
        yield
    except StoreUnavailable as error:
        text = str(error)
        if isinstance(error.__cause__, redis.exceptions.AuthenticationError):
            text = "the state server refuses the user or password in it (or wants one that it lacks)"
        elif (cause := error.__cause__) is not None and lacks_right(cause):
            text = f"its user may not do this: {describe(cause)} ({RIGHTS})"
        raise StoreUnavailable(f"HANDOFF_REDIS_URL: {text}") from None
    except redis.exceptions.InvalidResponse:
        raise StoreError("HANDOFF_REDIS_URL: what answers there is not Redis or Valkey") from None
