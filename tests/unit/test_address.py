"""Addresses of the state server: what a URL says, and what is wrong with one, in words that quote nothing of it."""

from __future__ import annotations

import pytest

from worker.address import Address, Host, Kind, Malformed, parse
from worker.errors import ConfigurationError
from worker.settings import Settings

SENTINELS = (Host("a", 26379), Host("b", 26380))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", Address(Kind.SERVER, "redis://h:1/2")),
        ("rediss://u:p@h", Address(Kind.SERVER, "rediss://u:p@h")),
        ("unix:///run/v.sock?db=2", Address(Kind.SERVER, "unix:///run/v.sock?db=2")),
        (
            "redis+sentinel://a,b:26380/mine/3",
            Address(Kind.SENTINEL, "redis://a:26379/3", SENTINELS, "mine"),
        ),
        (
            "redis+sentinel://u:p%40@a:26379,b:26380/my%20own",
            Address(Kind.SENTINEL, "redis://u:p%40@a:26379/0", SENTINELS, "my own"),
        ),
        (
            "rediss+sentinel://:p@a,b:26380/m/0?sentinel_username=s&sentinel_password=t%26&ssl_ca_certs=/ca.pem",
            Address(Kind.SENTINEL, "rediss://:p@a:26379/0?ssl_ca_certs=%2Fca.pem", SENTINELS, "m", "s", "t&"),
        ),
        (
            "redis+cluster://u:p@a:7000,[::1]:7001,b/",
            Address(Kind.CLUSTER, "redis://u:p@a:7000/0", (Host("a", 7000), Host("::1", 7001), Host("b", 6379))),
        ),
        ("rediss+cluster://[::1]", Address(Kind.CLUSTER, "rediss://[::1]:6379/0", (Host("::1", 6379),))),
    ],
)
def test_what_a_url_says(url: str, expected: Address) -> None:
    assert parse(url) == expected
    assert parse(url).tls == url.startswith("rediss")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("hunter2", "must be a URL that begins with"),
        ("http://hunter2", "must be a URL that begins with"),
        ("redis+socket://hunter2", "must be a URL that begins with"),
        ("redis+clusters://u:hunter2@h", "must be a URL that begins with"),
        ("unix+cluster:///hunter2", "over a network"),
        ("redis://u:hunter2@h:port/0", "has no readable host and port"),
        ("redis://u:hunter2@h/zero", "must end in the number of a database"),
        ("redis+sentinel://u:hunter2@h:26379", "must end in the primary's name"),
        ("redis+sentinel://u:hunter2@h:26379/0/mymaster", "must end in the primary's name"),
        ("redis+sentinel://u:hunter2@h:26379,/mymaster", "has no readable hosts and ports"),
        ("redis+sentinel://u:hunter2@h:x/mymaster", "has no readable hosts and ports"),
        ("redis+sentinel://u:hunter2@h:99999/mymaster", "has no readable hosts and ports"),
        ("redis+sentinel://u:hunter2@h/mymaster?db=3", "has its database in the path"),
        ("redis+cluster://u:hunter2@", "has no readable hosts and ports"),
        ("redis+cluster://u:hunter2/3@h", "has no readable hosts and ports"),
        ("redis+cluster://u:hunter2@h:7000/3", "has database 0 and no other"),
        ("redis+cluster://u:hunter2@h:7000?sentinel_password=x", "has no Sentinels"),
    ],
)
def test_what_is_wrong_with_one(url: str, problem: str) -> None:
    with pytest.raises(Malformed, match=problem) as raised:
        parse(url)
    with pytest.raises(ConfigurationError, match=f"^HANDOFF_REDIS_URL: .*{problem}") as refused:
        Settings(redis_url=url, broker_url="memory://")
    for text in (str(raised.value), raised.value.remedy, str(refused.value)):
        assert "hunter2" not in text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("unix:///run/v.sock?db=2", "redis+socket:///run/v.sock?virtual_host=2"),
        ("redis+sentinel://u:p%40@a,b:26380/m/3", "sentinel://u:p%40@a:26379/3;sentinel://u:p%40@b:26380/3"),
    ],
)
def test_the_doorbells_follow_the_state(url: str, broker: str) -> None:
    settings = Settings(redis_url=url)
    assert settings.broker == broker
    assert settings.rings_on_store


def test_the_doorbells_of_a_cluster_need_a_server_of_their_own() -> None:
    with pytest.raises(ConfigurationError, match="HANDOFF_BROKER_URL: has to name a server"):
        Settings(redis_url="redis+cluster://h:7000")
    settings = Settings(redis_url="redis+cluster://h:7000", broker_url="redis+sentinel://a,b:26380/m")
    assert settings.broker == "sentinel://a:26379/0;sentinel://b:26380/0"
    assert not settings.rings_on_store


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+cluster://u:hunter2@h:7000", "is a cluster"),
        ("sentinel://u:hunter2@h:26379", "names Sentinels, but not the primary"),
        ("redis://u:hunter2@h:x/0", "has no readable host and port"),
        ("hunter2://h", "the name of a broker that Celery knows"),
    ],
)
def test_what_can_t_carry_doorbells(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^HANDOFF_BROKER_URL: .*{problem}") as raised:
        Settings(broker_url=url)
    assert "hunter2" not in str(raised.value)
