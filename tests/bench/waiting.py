"""``python -m tests.bench.waiting``: calls per second of a handler that waits 50 ms, for 500 teams, by one process."""

from __future__ import annotations

import time

import click

from tests import processes, servers
from tests.bench.contenders.handoff import PROCFILE_FLAGS, ROOT
from tests.processes import until
from tests.store_kit import other
from worker.settings import Settings
from worker.store.client import connect
from worker.store.installation import fix_partitions
from worker.store.keys import PartitionKeys, partition_of

TEAMS = 500


@click.command()
@click.option("--kind", type=click.Choice(["async", "plain"]), default="async", show_default=True)
@click.option("--calls", type=click.IntRange(100), default=20_000, show_default=True)
@click.option("--concurrency", type=int, help="Instead of the default.")
def main(kind: str, calls: int, concurrency: int | None) -> None:
    """Fill the inboxes, start a worker of one process, and time it from the first call to the last."""
    with servers.running("valkey") as url:
        settings = Settings(redis_url=url)
        client = connect(settings)
        count = fix_partitions(client, settings)
        pipe = client.pipeline(transaction=False)
        for number in range(calls):
            team = f"team{number % TEAMS}"
            keys = PartitionKeys(settings.prefix, partition_of(team, count))
            pipe.xadd(keys.inbox, {"b": other(team, number // TEAMS + 1)})
        pipe.execute()

        def done() -> int:
            ledgers = [PartitionKeys(settings.prefix, number).ledger for number in range(count)]
            return sum(int(client.hget(ledger, "done:waits") or 0) for ledger in ledgers)

        environment = {
            "HANDOFF_REDIS_URL": url,
            "HANDOFF_HANDLERS": "tests.bench.waiting_handlers",
            "PYTHONPATH": str(ROOT),
            "WAITING": kind,
        } | ({} if concurrency is None else {"HANDOFF_HANDLER_WAITS_CONCURRENCY": str(concurrency)})
        command = processes.python("celery", "-A", "worker", "worker", "-c", "1", *PROCFILE_FLAGS)
        with processes.running(command, environment, ROOT):
            until(done, "the first call", 60.0)
            before, began = done(), time.monotonic()
            until(lambda: done() == calls, "the last call", 600.0, pause=0.02)
            seconds = time.monotonic() - began
        click.echo(f"{kind}: {calls - before:,} calls in {seconds:.2f} s, {(calls - before) / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
