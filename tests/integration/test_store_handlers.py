"""What workers announce of their handlers, on a real server."""

from __future__ import annotations

from redis import Redis

from worker.settings import Settings
from worker.store.installation import announce_handlers, known_handlers


def test_handlers_that_were_announced_are_known(client: Redis, settings: Settings) -> None:
    described = {"name": "crm", "queue": "crm", "attempts": 10}
    announce_handlers(client, settings, [described])
    announce_handlers(client, settings, [])
    assert known_handlers(client, settings) == {"crm": described}
    assert known_handlers(client, settings.model_copy(update={"prefix": "other"})) == {}
