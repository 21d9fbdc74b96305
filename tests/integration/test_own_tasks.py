"""Workers are Celery's: tasks that a module of handlers defines besides are run by them as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import running_road
from tests.store_kit import change

pytestmark = pytest.mark.server


def test_a_task_of_the_users_own_is_run(tmp_path: Path) -> None:
    with running_road(tmp_path, handlers="tests.integration.own_tasks") as road:
        headers = {HEADER: sign(change("acme", 1), road.secret, road.now())}
        assert road.http.post("/webhooks/inbox", content=change("acme", 1), headers=headers).status_code == 202
        tidied = tmp_path / "tidied-acme"
        until(lambda: tidied.exists() and tidied.read_text() == "2", "the task is run")
        assert "message_dropped" not in road.workers[0].output
