"""An installation filled through the real store code, and the real command run against it.

Most tests call the command in their own process, for a Python that starts takes most of a second; test_cli_process.py
holds that a process of its own answers the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import redis
from click.testing import CliRunner

from tests import access
from tests.store_kit import AT_ONCE, Partition, to
from worker.core.dispatch import Route
from worker.core.handlers import define
from worker.core.sequencing import Policy
from worker.ops import cli
from worker.settings import Settings, load_settings, variables
from worker.store.client import connect
from worker.store.installation import announce_handlers, fix_partitions
from worker.store.keys import PartitionKeys, partition_of
from worker.store.keys import sweeper as sweeper_key
from worker.store.lanes import Action, Attempt, Settlement

CRM = to("crm")

READING = (
    *(["status"], ["handlers"], ["actions"], ["audit"]),
    *(["dead", "list"], ["quarantine", "list"], ["lanes", "list"]),
)
"""Every command that only reads."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


def run(*arguments: str, folder: Path, typed: str = "", **environment: str) -> Ran:
    """``handoff ...`` as a user runs it. ``folder`` is where: not the checkout, whose .env is nobody's business.

    ``typed`` is what it reads from standard input.
    """
    with mock.patch.dict(os.environ, _environment(environment), clear=True), contextlib.chdir(folder):
        _forget_settings()
        done = CliRunner().invoke(cli.main, arguments, typed, prog_name="handoff", catch_exceptions=False)
        _forget_settings()
    return Ran(done.exit_code, done.stdout, done.stderr)


def run_process(*arguments: str, folder: Path, **environment: str) -> Ran:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "worker.ops.cli", *arguments]
    env = _environment(environment)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def _environment(told: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HANDOFF_")} | dict(told)


def _forget_settings() -> None:
    """Settings are read once in a process."""
    for read in (load_settings, variables):
        read.cache_clear()


@dataclass
class Installation:
    """Four partitions on a real server, as workers and an ingress would have left them."""

    settings: Settings
    folder: Path
    client: redis.Redis = field(init=False)

    def __post_init__(self) -> None:
        self.client = connect(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        url = access.as_user(self.settings.redis_url, "operator")
        return {"HANDOFF_REDIS_URL": url, "HANDOFF_PREFIX": self.settings.prefix}

    def start(self, *handlers: str, sweeping: bool = True) -> None:
        """What a worker does when it starts."""
        fix_partitions(self.client, self.settings)
        described: list[Mapping[str, Any]] = [describe(name) for name in handlers]
        announce_handlers(self.client, self.settings, described)
        if sweeping:
            self.client.set(sweeper_key(self.settings.prefix), "somebody")

    def of(self, team: str) -> Partition:
        """The team's partition."""
        return Partition(
            self.settings,
            self.client,
            PartitionKeys(self.settings.prefix, partition_of(team, self.settings.partitions or 0)),
        )

    def deliver(self, team: str, *bodies: bytes, route: Route = CRM, policy: Policy = AT_ONCE) -> None:
        """Deliveries of a team, accepted and sequenced."""
        self.of(team).sequence(*bodies, route=route, policy=policy)

    def settle(self, team: str, handler: str = "crm", **outcome: Any) -> None:
        """Claim the team's lane and write an outcome."""
        partition = self.of(team)
        lanes = partition.lanes(handler)
        claim = lanes.claim(lanes=100, jobs=100, per_lane=1)
        (token,) = {claim.token for lane in claim.lanes if lane.lane == team}
        lanes.settle([Settlement(token, team, **outcome)])

    def bury(self, team: str, handler: str = "crm", error: str = "crm.Rejected", text: str = "secret text") -> None:
        """The first job of the team's lane is given up after three attempts."""
        failed = [Attempt(number, 1, error, text) for number in (1, 2, 3)]
        self.settle(team, handler, action=Action.BURY, attempts=3, failed=failed, error=error, text=text)

    def run(self, *arguments: str, typed: str = "", **environment: str) -> Ran:
        return run(*arguments, folder=self.folder, typed=typed, **self.environment | environment)

    def run_process(self, *arguments: str) -> Ran:
        return run_process(*arguments, folder=self.folder, **self.environment)

    def later(self) -> None:
        """What comes now comes in a later millisecond than what came before: lists are by time, then by partition."""
        client: Any = self.client
        before = client.time()
        while (client.time()[0], client.time()[1] // 1000) <= (before[0], before[1] // 1000):
            pass

    def names(self) -> set[bytes]:
        return set(self.client.scan_iter(match=f"{self.settings.prefix}:*"))


def describe(name: str, **other: Any) -> dict[str, Any]:
    """What ``HandlerSpec.describe`` gives."""
    options = {"queue": f"q.{name}", "attempts": 5, "timeout": 10.0, "rate": "100/10s", "concurrency": 64}
    return (
        define(lambda change, ctx: None, name=name, **options).describe()
        | {"function": f"app.{name}", "async": True}
        | other
    )


def shape(value: Any) -> Any:
    """A JSON document with every value replaced by its type: what programs rely on."""
    match value:
        case dict():
            return {name: shape(each) for name, each in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case None:
            return None
    return type(value).__name__
