"""Settings: what can be written, and the one line for what cannot."""

from pathlib import Path

import pytest
from kombu import Connection

from worker.errors import ConfigurationError
from worker.settings import Settings, load_settings, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", 0.25),
        ("10s", 10),
        ("5m", 300),
        ("6h5m", 21900),
        ("90d", 7776000),
        ("1.5", 1.5),
        (" 2 h ", 7200),
        (3, 3),
    ],
)
def test_durations(text: object, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["soon", "", "-1", "5 parsecs", "inf", "nan", None, True])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"HANDOFF_BIND": "8000"}, "HANDOFF_BIND"),
        ({"HANDOFF_BIND": "host:99999"}, "HANDOFF_BIND"),
        ({"HANDOFF_PARTITIONS": "0"}, "HANDOFF_PARTITIONS"),
        ({"HANDOFF_PARTITIONS": "many"}, "HANDOFF_PARTITIONS"),
        ({"HANDOFF_PREFIX": "a{b}"}, "HANDOFF_PREFIX"),
        ({"HANDOFF_GAP_WAIT": "soon"}, "HANDOFF_GAP_WAIT"),
        ({"HANDOFF_GAP_WAIT": "2d"}, "HANDOFF_GAP_WAIT"),
        ({"HANDOFF_GAP_WAIT_MIN": "20s"}, "HANDOFF_GAP_WAIT_MIN"),
        ({"HANDOFF_DEDUP_WINDOW": "100d"}, "HANDOFF_DEDUP_WINDOW"),
        ({"HANDOFF_MAX_BODY": "big"}, "HANDOFF_MAX_BODY"),
        ({"HANDOFF_WEBHOOK_SECRET": "short"}, "HANDOFF_WEBHOOK_SECRET"),
        ({"HANDOFF_TEAM_SECRETS": "team"}, "HANDOFF_TEAM_SECRETS"),
        ({"HANDOFF_LOG_LEVEL": "loud"}, "HANDOFF_LOG_LEVEL"),
        ({"HANDOFF_REDIS_URL": "http://127.0.0.1"}, "HANDOFF_REDIS_URL"),
        ({"HANDOFF_REDIS_URL": "nonsense"}, "HANDOFF_REDIS_URL"),
        ({"HANDOFF_REDIS_URL": "redis://127.0.0.1/first"}, "HANDOFF_REDIS_URL"),
        ({"HANDOFF_REDIS_URL": "redis://:hunter2/x@127.0.0.1"}, "HANDOFF_REDIS_URL"),
        ({"HANDOFF_BROKER_URL": "nonsense"}, "HANDOFF_BROKER_URL"),
        ({"HANDOFF_BROKER_URL": "amqq://127.0.0.1"}, "HANDOFF_BROKER_URL"),
        ({"HANDOFF_BROKER_URL": "redis://127.0.0.1/first"}, "HANDOFF_BROKER_URL"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert str(raised.value).startswith(f"{named}: ")
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://user:p%2Fss@[::1]:6380/3",
        "rediss://127.0.0.1:6379/0?ssl_cert_reqs=required",
        "amqp://guest@127.0.0.1//",
        "sqla+sqlite:///doorbells",
        "redis://127.0.0.1:6379/0;redis://127.0.0.2:6379/0",
        "memory://",
    ],
)
def test_any_broker_of_celerys_may_ring(url: str) -> None:
    settings = Settings(broker_url=url)
    assert settings.broker == url
    assert not settings.rings_on_store


def test_the_doorbells_of_a_socket_are_named_as_kombu_names_them() -> None:
    settings = Settings(redis_url="unix:///run/valkey.sock?db=2")
    assert settings.rings_on_store
    assert settings.broker == "redis+socket:///run/valkey.sock?virtual_host=2"
    assert Connection(settings.broker).get_transport_cls().driver_type == "redis"


def test_a_dotenv_file_that_is_no_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    (tmp_path / ".env").write_bytes(b"HANDOFF_PREFIX=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"^\.env: is not UTF-8 text$"):
        load_settings()


def test_a_secret_is_never_part_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_TEAM_SECRETS", "geheim-ohne-gleich")
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert "geheim" not in str(raised.value)
    monkeypatch.delenv("HANDOFF_TEAM_SECRETS")
    assert "geheim" not in repr(Settings(webhook_secret=["geheimgeheim"]))


def test_the_provider_s_name_for_the_secret_is_read_and_both_rotate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOX_WEBHOOK_SECRET", "ibt_wh_new_one, ibt_wh_old_one")
    assert load_settings().secrets == (b"ibt_wh_new_one", b"ibt_wh_old_one")


def test_a_team_may_have_several_secrets() -> None:
    found = Settings(team_secrets=["a=first-secret", "b=other-secret", "a=second=secret"]).secrets_by_team
    assert found == {"a": (b"first-secret", b"second=secret"), "b": (b"other-secret",)}


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_BROKER_URL", "")
    settings = load_settings()
    assert settings.broker == settings.redis_url


def test_addresses() -> None:
    assert Settings(bind="[::1]:80").host_and_port == ("::1", 80)
    assert Settings(bind="0.0.0.0:8000").host_and_port == ("0.0.0.0", 8000)
