"""Settings of handlers: a mistake is one line that names the variable."""

from __future__ import annotations

import pytest
from pydantic import Field, SecretStr

from worker.errors import ConfigurationError
from worker.handler_settings import Duration, HandlerSettings, Pairs


class Options(HandlerSettings, env_prefix="HANDOFF_TRY_"):
    token: SecretStr = Field(description="Access token.")
    wait: Duration = Field(5.0, description="How long.")
    fields: Pairs = Field(default_factory=dict, description="What goes where.")


def test_they_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"TOKEN": "t0ken\n", "WAIT": "2m", "FIELDS": "a=b, c=d=e"}.items():
        monkeypatch.setenv(f"HANDOFF_TRY_{name}", text)
    options = Options.load()
    assert (options.token.get_secret_value(), options.wait, options.fields) == ("t0ken", 120.0, {"a": "b", "c": "d=e"})
    assert "t0ken" not in repr(options)


def test_a_missing_one_is_named_with_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options.load()
    assert str(caught.value) == "HANDOFF_TRY_TOKEN: is not set (Access token)"


@pytest.mark.parametrize(("name", "text"), [("WAIT", "secret-soon"), ("FIELDS", "secret-nothing")])
def test_a_wrong_one_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv("HANDOFF_TRY_TOKEN", "t0ken")
    monkeypatch.setenv(f"HANDOFF_TRY_{name}", text)
    with pytest.raises(ConfigurationError, match=f"HANDOFF_TRY_{name}: must be") as caught:
        Options.load()
    assert "secret" not in str(caught.value)
