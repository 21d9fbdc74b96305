"""Settings that are in files: every one, of Handoff and of handlers, read once and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from worker.errors import ConfigurationError
from worker.handler_settings import HandlerSettings
from worker.handlers import SHIPPED, configured
from worker.ops.settings_table import rows
from worker.ops.strays import strays
from worker.settings import Settings, load_settings

SECRET = "ibt_wh_in_a_file"


class Options(HandlerSettings, env_prefix="HANDOFF_OURS_"):
    token: SecretStr = Field(description="A token.")
    key: str = Field("", description="A key.")
    key_file: Path | None = Field(None, description="A file with a key.")


def in_file(monkeypatch: pytest.MonkeyPatch, folder: Path, variable: str, text: str | bytes) -> Path:
    path = folder / variable
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    monkeypatch.setenv(f"{variable}_FILE", str(path))
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("variable", ["HANDOFF_WEBHOOK_SECRET", "INBOX_WEBHOOK_SECRET"])
def test_a_secret_is_read_from_the_file_without_the_line_s_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, end: str
) -> None:
    in_file(monkeypatch, tmp_path, variable, SECRET + end)
    assert load_settings().secrets == (SECRET.encode(),)


def test_every_setting_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "HANDOFF_REDIS_URL": "redis://u:hidden@host/3",
        "HANDOFF_BROKER_URL": "amqp://u:hidden@host//",
        "HANDOFF_TEAM_SECRETS": "acme=hidden_one\nbeta=hidden_two\n",
        "HANDOFF_PARTITIONS": "7",
    }
    assert values.keys() < {row.name for row in rows()}
    for variable, value in values.items():
        in_file(monkeypatch, tmp_path, variable, value)
    settings = load_settings()
    assert (settings.redis_url, settings.broker_url) == tuple(values.values())[:2]
    assert settings.secrets_by_team == {"acme": (b"hidden_one",), "beta": (b"hidden_two",)}
    assert settings.partitions == 7
    assert "redis_url" in settings.model_fields_set


def test_lines_separate_secrets_as_commas_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_file(monkeypatch, tmp_path, "HANDOFF_WEBHOOK_SECRET", "new_secret\nold_secret\n")
    assert load_settings().secrets == (b"new_secret", b"old_secret")


def test_a_variable_goes_before_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_file(monkeypatch, tmp_path, "HANDOFF_WEBHOOK_SECRET", "not_this_one")
    monkeypatch.setenv("HANDOFF_WEBHOOK_SECRET", SECRET)
    assert load_settings().secrets == (SECRET.encode(),)


def test_the_environment_s_file_goes_before_a_value_of_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text("HANDOFF_WEBHOOK_SECRET=not_this_one\nHANDOFF_PREFIX_FILE=prefix\n")
    (tmp_path / "prefix").write_text("ours\n")
    monkeypatch.setitem(Settings.model_config, "env_file", env)
    monkeypatch.chdir(tmp_path)
    in_file(monkeypatch, tmp_path, "HANDOFF_WEBHOOK_SECRET", SECRET)
    assert (load_settings().secrets, load_settings().prefix) == ((SECRET.encode(),), "ours")


def test_handlers_settings_come_from_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = in_file(monkeypatch, tmp_path, "HANDOFF_OURS_TOKEN", "of-a-handler\n")
    key = in_file(monkeypatch, tmp_path, "HANDOFF_OURS_KEY", "is a setting by that name")
    options = Options.load()
    assert options.token.get_secret_value() == "of-a-handler"
    assert (options.key, options.key_file) == ("", key)
    assert str(path) not in repr(options)


@pytest.mark.parametrize("shipped", SHIPPED.values(), ids=lambda shipped: shipped.variable)
def test_a_file_puts_a_handler_on_as_a_value_does(shipped: object) -> None:
    variable: str = shipped.variable  # type: ignore[attr-defined]
    assert configured({variable: "x"}) == configured({f"{variable}_FILE": "x"}) != []


def test_a_file_s_variable_is_no_stray() -> None:
    assert list(strays({"HANDOFF_REDIS_URL_FILE": "x", "HANDOFF_INBOX_TOKEN_FILE": "x"})) == []
    (line,) = strays({"HANDOFF_REDIS_URI_FILE": "x"})
    assert line == "HANDOFF_REDIS_URI_FILE has no effect: is HANDOFF_REDIS_URL_FILE meant?"


@pytest.mark.parametrize("load", [load_settings, Options.load], ids=["settings", "options"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "can't be read: No such file or directory"), (b"\xff", "is not UTF-8 text"), (b"\n", "is an empty file")],
)
def test_a_file_that_can_t_be_used_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: object, content: bytes | None, problem: str
) -> None:
    for variable in ("HANDOFF_WEBHOOK_SECRET", "HANDOFF_OURS_TOKEN"):
        path = in_file(monkeypatch, tmp_path, variable, content or b"")
        if content is None:
            path.unlink()
    with pytest.raises(ConfigurationError) as caught:
        load()  # type: ignore[operator]
    assert str(caught.value).startswith(
        ("HANDOFF_WEBHOOK_SECRET_FILE: " + problem, "HANDOFF_OURS_TOKEN_FILE: " + problem)
    )
    assert "\n" not in str(caught.value)


def test_a_directory_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HANDOFF_WEBHOOK_SECRET_FILE", str(tmp_path))
    with pytest.raises(ConfigurationError, match="HANDOFF_WEBHOOK_SECRET_FILE: can't be read: Is a directory"):
        load_settings()
