"""Fixtures that every test may use. A missing server is a failure, here as in CI: the embedded one always exists."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from tests import servers, topologies
from tests.store_kit import Partition, partition_on
from worker.settings import Settings, load_settings, variables

CLUSTER = "cluster"
_numbers = itertools.count(1)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Texts are no names, the less so with the time in them: processes that share the tests must call them the same."""
    return argname if isinstance(val, str | bytes) and len(val) > 60 else None


@pytest.fixture(scope="session")
def _url_of() -> Iterator[Callable[[str], str]]:
    """A server of a kind, started when it is first asked for and kept: files are run one by one, over both kinds."""
    with ExitStack() as stack:
        yield functools.cache(lambda kind: _start(stack, kind))


def _start(stack: ExitStack, kind: str) -> str:
    if kind == CLUSTER:
        return stack.enter_context(topologies.cluster(servers.KINDS[-1])).url
    return stack.enter_context(servers.running(kind))


@pytest.fixture(scope="session")
def any_server_url(request: pytest.FixtureRequest, _url_of: Callable[[str], str]) -> str:
    """Every kind of server there is on this machine, in turn: for the tests of scripts."""
    return _url_of(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says ``ON_A_CLUSTER = True`` runs its tests on a cluster of three nodes as well."""
    if "any_server_url" in metafunc.fixturenames:
        kinds = [*servers.KINDS, *([CLUSTER] if getattr(metafunc.module, "ON_A_CLUSTER", False) else [])]
        metafunc.parametrize("any_server_url", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The embedded Valkey: for tests in which the kind of server makes no difference."""
    with servers.running("valkey") as url:
        yield url


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the settings of the machine it runs on, nor those that another test has read."""
    import os

    for name in list(os.environ):
        if name.startswith("HANDOFF_") or name == "INBOX_WEBHOOK_SECRET":
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for read in (load_settings, variables):
        read.cache_clear()
    yield
    for read in (load_settings, variables):
        read.cache_clear()


@pytest.fixture
def prefix() -> str:
    """A key prefix of the test's own, so that tests share a server and nothing on it."""
    return f"t{next(_numbers)}"


@pytest.fixture
def settings(server_url: str, prefix: str) -> Settings:
    return Settings(redis_url=server_url, prefix=prefix, partitions=4, webhook_secret=["ibt_wh_test_secret"])


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as connection:
        yield connection


@pytest.fixture
def partition(any_server_url: str, prefix: str) -> Iterator[Partition]:
    """An empty partition, on every kind of server in turn."""
    with partition_on(any_server_url, prefix) as found:
        yield found
