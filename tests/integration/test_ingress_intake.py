"""Group commit against a real server: every delivery learns what became of itself, in time, whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import ingress.intake
import ingress.line
from ingress.intake import Intake
from ingress.line import Outcome
from ingress.metrics import Metrics
from tests.ingress_kit import PARTITIONS, FrailServer, frail_server, inboxes
from worker.settings import Settings
from worker.store.keys import PartitionKeys

pytestmark = pytest.mark.server


@asynccontextmanager
async def opened(settings: Settings, rung: list[int] | None = None, *, flush: bool = False) -> AsyncIterator[Intake]:
    def ring(partitions: Iterable[int]) -> None:
        if rung is not None:
            rung.extend(partitions)

    intake = Intake(settings.address, Metrics(), ring, flush=flush)
    await intake.open(settings.prefix, PARTITIONS)
    try:
        yield intake
    finally:
        await intake.drain()
        await intake.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def outcomes(intake: Intake, number: int, size: int = 10) -> list[Outcome]:
    return await asyncio.gather(*(intake.submit(n % PARTITIONS, b"x" * size, None) for n in range(number)))


async def until_stored(intake: Intake) -> None:
    while await intake.submit(0, b"again", None) is not Outcome.STORED:  # noqa: ASYNC110 - nothing to wait on
        await asyncio.sleep(0.01)


def test_bodies_are_stored_byte_for_byte_with_the_urls_team(settings: Settings, client: redis.Redis) -> None:
    bodies = [b"", b"\x00\xff\r\n", b"x" * 300_000, "é".encode()]

    async def scenario() -> None:
        async with opened(settings) as intake:
            stored = [intake.submit(1, body, "téam") for body in bodies] + [intake.submit(1, b"plain", None)]
            assert set(await asyncio.gather(*stored)) == {Outcome.STORED}
            assert intake.stored == 5

    run(scenario)
    expected = [{b"b": body, b"t": "téam".encode()} for body in bodies] + [{b"b": b"plain"}]
    assert [fields for _, fields in client.xrange(PartitionKeys(settings.prefix, 1).inbox)] == expected


def test_what_arrives_together_is_stored_together(settings: Settings) -> None:
    async def scenario() -> None:
        metrics = Metrics()
        intake = Intake(settings.address, metrics, lambda _: None)
        await intake.open(settings.prefix, PARTITIONS)
        assert set(await outcomes(intake, 100)) == {Outcome.STORED}
        assert metrics.registry.get_sample_value("handoff_ingress_commit_deliveries_count") == 1
        assert metrics.registry.get_sample_value("handoff_ingress_commit_deliveries_sum") == 100
        await intake.close()

    run(scenario)


def test_a_batch_is_bounded_in_number_and_bytes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress.line, "BATCH_DELIVERIES", 10)
    monkeypatch.setattr(ingress.line, "BATCH_BYTES", 1000)

    async def scenario() -> None:
        async with opened(settings) as intake:
            assert set(await outcomes(intake, 95)) == {Outcome.STORED}
            assert set(await outcomes(intake, 7, size=900)) == {Outcome.STORED}
            sample = intake._metrics.registry.get_sample_value
            assert sample("handoff_ingress_commit_deliveries_count") == 10 + 4

    run(scenario)


def test_a_bell_is_rung_once_until_it_was_answered(settings: Settings, client: redis.Redis) -> None:
    rung: list[int] = []

    async def scenario() -> None:
        async with opened(settings, rung) as intake:
            await outcomes(intake, 20)
            assert sorted(rung) == [0, 1, 2, 3]
            await outcomes(intake, 20)
            assert len(rung) == 4
            client.delete(PartitionKeys(settings.prefix, 2).bell)
            await outcomes(intake, 20)
            assert rung[4:] == [2]

    run(scenario)
    assert 0 < client.pttl(PartitionKeys(settings.prefix, 0).bell) <= 2000


def test_each_delivery_gets_the_outcome_of_its_own_xadd(settings: Settings, client: redis.Redis) -> None:
    """One partition's inbox is no stream: its deliveries fail, those beside them in the batch do not."""
    client.set(PartitionKeys(settings.prefix, 1).inbox, "in the way")

    async def scenario() -> None:
        async with opened(settings) as intake:
            assert await outcomes(intake, 8) == [Outcome.STORED, Outcome.REFUSED, Outcome.STORED, Outcome.STORED] * 2
            client.delete(PartitionKeys(settings.prefix, 1).inbox)
            assert set(await outcomes(intake, 8)) == {Outcome.STORED}

    run(scenario)


def test_too_many_at_once_are_refused_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress.intake, "WAITING_DELIVERIES", 5)
    monkeypatch.setattr(ingress.intake, "WAITING_BYTES", 1000)

    async def scenario() -> None:
        async with opened(settings) as intake:
            assert await outcomes(intake, 7) == [Outcome.STORED] * 5 + [Outcome.OVERLOADED] * 2
            assert await outcomes(intake, 3, size=600) == [Outcome.STORED] + [Outcome.OVERLOADED] * 2
            assert await outcomes(intake, 1, size=5000) == [Outcome.STORED], "one that is over the bound alone gets in"

    run(scenario)


@pytest.fixture
def frail(tmp_path: Path) -> Iterable[FrailServer]:
    with frail_server(tmp_path) as server:
        yield server


def frail_settings(server: FrailServer) -> Settings:
    return Settings(redis_url=server.url, prefix="t", partitions=PARTITIONS)


def test_a_killed_server_is_unknown_and_a_new_one_is_used(frail: FrailServer) -> None:
    async def scenario() -> None:
        async with opened(frail_settings(frail)) as intake:
            assert set(await outcomes(intake, 4)) == {Outcome.STORED}
            frail.kill()
            assert set(await outcomes(intake, 40)) == {Outcome.UNKNOWN}
            frail.start()
            await until_stored(intake)

    run(scenario)


def test_a_server_that_hangs_costs_one_patience(frail: FrailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the forty batches behind the one that hangs don't wait for forty time-outs, one after the other."""
    monkeypatch.setattr(ingress.intake, "PATIENCE", 0.2)
    monkeypatch.setattr(ingress.line, "BATCH_DELIVERIES", 10)

    async def scenario() -> None:
        async with opened(frail_settings(frail)) as intake:
            await outcomes(intake, 4)
            frail.pause()
            async with asyncio.timeout(4):  # forty time-outs are eight seconds
                assert set(await outcomes(intake, 400)) == {Outcome.UNKNOWN}
            frail.resume()
            await until_stored(intake)

    run(scenario)


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        pytest.param(
            lambda client: client.replicaof("127.0.0.1", "1"),
            lambda client: client.replicaof("no", "one"),
            id="readonly",
        ),
        pytest.param(
            lambda client: client.config_set("maxmemory", 1), lambda client: client.config_set("maxmemory", 0), id="oom"
        ),
    ],
)
def test_a_server_that_refuses_writes_is_believed(
    frail: FrailServer, refuse: Callable[[redis.Redis], object], allow: Callable[[redis.Redis], object]
) -> None:
    rung: list[int] = []

    async def scenario(client: redis.Redis) -> None:
        async with opened(frail_settings(frail), rung) as intake:
            refuse(client)
            assert set(await outcomes(intake, 40)) == {Outcome.REFUSED}
            assert rung == [], "there is nothing to ring for"
            allow(client)
            await until_stored(intake)
            assert len(inboxes(client, "t")) == 1

    with frail.client() as client:
        run(lambda: scenario(client))


# --- until the disk has it --------------------------------------------------------------------------------------------

ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def keeping(tmp_path: Path) -> Iterable[FrailServer]:
    with frail_server(tmp_path, *ON_DISK) as server:
        yield server


def test_a_batch_asks_the_disk_once(keeping: FrailServer) -> None:
    async def scenario(client: redis.Redis) -> None:
        async with opened(frail_settings(keeping), flush=True) as intake:
            client.config_resetstat()
            assert set(await outcomes(intake, 100, size=2000)) == {Outcome.STORED}
            assert (intake.stored, intake.stored_bytes) == (100, 200_000)
            stats: Any = client.info("commandstats")
            asked = {name: stats[f"cmdstat_{name}"]["calls"] for name in ("multi", "exec", "waitaof", "xadd")}
            assert asked == {"multi": 1, "exec": 1, "waitaof": 1, "xadd": 100}

    with keeping.client() as client:
        run(lambda: scenario(client))


def test_bells_are_rung_for_what_the_disk_has(keeping: FrailServer) -> None:
    rung: list[int] = []

    async def scenario() -> None:
        async with opened(frail_settings(keeping), rung, flush=True) as intake:
            await outcomes(intake, 20)
            await outcomes(intake, 20)

    run(scenario)
    assert sorted(rung) == [0, 1, 2, 3]


def test_with_flushing_each_delivery_gets_its_own_outcome_too(keeping: FrailServer) -> None:
    async def scenario(client: redis.Redis) -> None:
        client.set(PartitionKeys("t", 1).inbox, "in the way")
        async with opened(frail_settings(keeping), flush=True) as intake:
            assert await outcomes(intake, 8) == [Outcome.STORED, Outcome.REFUSED, Outcome.STORED, Outcome.STORED] * 2

    with keeping.client() as client:
        run(lambda: scenario(client))


def test_with_flushing_refused_writes_are_refused_too(keeping: FrailServer) -> None:
    async def scenario(client: redis.Redis) -> None:
        async with opened(frail_settings(keeping), flush=True) as intake:
            client.config_set("maxmemory", 1)
            assert set(await outcomes(intake, 8)) == {Outcome.REFUSED}
            client.config_set("maxmemory", 0)
            await until_stored(intake)
            assert len(inboxes(client, "t")) == 1

    with keeping.client() as client:
        run(lambda: scenario(client))


@pytest.mark.parametrize(
    "spoil", [{"appendfsync": "no"}, {"appendonly": "no"}], ids=["the disk does not answer", "there is no file"]
)
def test_what_the_disk_does_not_confirm_is_unknown(
    spoil: dict[str, str], keeping: FrailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has it, which is not what was asked: the provider sends it again, and it is a duplicate."""
    monkeypatch.setattr(ingress.intake, "PATIENCE", 0.5)

    async def scenario(client: redis.Redis) -> None:
        async with opened(frail_settings(keeping), flush=True) as intake:
            await outcomes(intake, 1)
            for name, value in spoil.items():
                client.config_set(name, value)
            assert set(await outcomes(intake, 8)) == {Outcome.UNKNOWN}
            assert intake.stored == 1
            assert len(inboxes(client, "t")) == 9

    with keeping.client() as client:
        run(lambda: scenario(client))
