"""Options of handlers from the environment: read, checked like the decorator's, and refused in one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker import Breaker
from worker.core.handlers import HandlerSpec, Rate, define
from worker.core.options import CHECKS
from worker.core.retry import Backoff
from worker.errors import ConfigurationError
from worker.runtime.overrides import PARSERS, PREFIX, override
from worker.settings import Settings, variables

FUNCTIONS = {"when", "classify", "preview"}


def push(change: object, ctx: object) -> None: ...


def registry(*names: str, **options: Any) -> dict[str, HandlerSpec]:
    return {name: define(push, name=name, **options) for name in names or ("push",)}


def overridden(name: str = "push", *, of: dict[str, HandlerSpec] | None = None, **said: str) -> HandlerSpec:
    """The handler with ``RATE="5/s"`` and the like said of it."""
    found = {f"{PREFIX}PUSH_{option}": value for option, value in said.items()}
    return override(of or registry(), found)[name]


def complaint(variables: dict[str, str], handlers: dict[str, HandlerSpec] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        override(handlers or registry("push", "crm.tasks.sync"), variables)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("on", "message.*, tag.created", ("message.*", "tag.created")),
        ("on", "None", None),
        ("queue", "crm", "crm"),
        ("attempts", "3", 3),
        ("timeout", "1m30s", 90.0),
        ("timeout", "2.5", 2.5),
        ("backoff", "1s/5m", Backoff(1, 300)),
        ("backoff", "0/0", Backoff(0, 0)),
        ("rate", "100/10s", Rate(100, 10)),
        ("rate", "none", None),
        ("team_rate", "5/s", Rate(5, 1)),
        ("team_rate", "OFF", None),
        ("concurrency", "7", 7),
        ("order_by", "prospect", "prospect"),
        ("order_by", "Team", "team"),
        ("order_by", "none", None),
        ("on_exhausted", "block", "block"),
        ("late", "all", "all"),
        ("unchanged", "true", True),
        ("unchanged", "off", False),
        ("conflate", "on", True),
        ("conflate", "0", False),
        ("batch", "50", 50),
        ("batch", "off", None),
    ],
)
def test_every_option_can_be_set_and_what_can_be_taken_away_is(option: str, text: str, expected: object) -> None:
    spec = overridden(**{option.upper(): f" {text} "})
    assert getattr(spec, option) == expected
    assert spec == replace(registry()["push"], **{option: expected}, overridden=(option,))


def test_options_of_the_decorator_give_way_and_the_others_stay() -> None:
    had = registry(rate="5/s", order_by="prospect", batch=10, batch_wait=2, timeout=7)
    spec = overridden(of=had, RATE="none", BATCH="20", RETRIES="4")
    assert spec == replace(had["push"], rate=None, batch=20, attempts=5, overridden=("retries", "rate", "batch"))
    assert overridden(of=had, BATCH_WAIT="250ms").batch_wait == 0.25
    assert overridden(of=had, BREAKER="off").breaker is None
    assert overridden(of=had, BREAKER="calls=9 pause=250ms").breaker == Breaker(calls=9, pause=0.25)
    assert overridden(of=had, BATCH="none").batch is None


def test_every_option_that_a_text_can_express_has_a_parser() -> None:
    assert set(PARSERS) == set(CHECKS) - FUNCTIONS


def test_handlers_that_nothing_is_said_of_stay_the_same_objects() -> None:
    had = registry("push", "pull")
    made = override(had, {f"{PREFIX}PUSH_RATE": "5/s", "HANDOFF_HANDLERS": "x", "PATH": "/bin"})
    assert made["pull"] is had["pull"]
    assert list(made) == ["push", "pull"]
    assert had["push"].rate is None


def test_a_name_in_capitals_has_a_line_for_whatever_is_no_letter_or_digit() -> None:
    made = override(registry("crm.tasks-v2.sync"), {f"{PREFIX}CRM_TASKS_V2_SYNC_ATTEMPTS": "2"})
    assert made["crm.tasks-v2.sync"].attempts == 2


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("attempts", "0", "must be a whole number, 1 or more"),
        ("attempts", "many", "must be a whole number, 1 or more"),
        ("attempts", "none", "must be a whole number, 1 or more"),
        ("concurrency", "1.5", "must be a whole number, from 1 to 1000"),
        ("concurrency", "9" * 5000, "must be a whole number"),
        ("timeout", "soon", "must be a duration such as"),
        ("timeout", "2h", "must be seconds, more than 0 and at most 3600"),
        ("batch_wait", "1s", "needs batch="),
        ("backoff", "1s", "must be base/cap"),
        ("backoff", "off", "must be base/cap"),
        ("backoff", "a/b", "must be base/cap"),
        ("rate", "fast", "must be calls per time"),
        ("order_by", "teams", "must be 'team', 'prospect' or None"),
        ("on_exhausted", "bury", "must be 'dead_letter' or 'block'"),
        ("unchanged", "maybe", "must be true or false"),
        ("on", ",", "must be a type or pattern"),
        ("queue", "a b", "must be a queue's name"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_by_its_variable_and_not_printed(
    option: str, text: str, said: str
) -> None:
    variable = f"{PREFIX}PUSH_{option.upper()}"
    told = complaint({variable: text})
    assert told.startswith(f"{variable}: {said}")
    assert text not in told.removeprefix(variable).replace("for instance 1s/300s", "") or len(text) < 2


def test_a_variable_of_no_handler_lists_the_handlers() -> None:
    assert complaint({f"{PREFIX}PUHS_RATE": "5/s"}) == (
        f"{PREFIX}PUHS_RATE: names no handler (there are PUSH, CRM_TASKS_SYNC)"
    )
    for rest in ("", "PUSH", "RATE", "_RATE", "PUSHRATE"):
        assert "names no handler" in complaint({PREFIX + rest: "x"})
    many = complaint({f"{PREFIX}X_RATE": "5/s"}, registry(*(f"h{number}" for number in range(50))))
    assert many.endswith(", H19 and 30 more)")


@pytest.mark.parametrize("rest", ["SPEED", "NAME", "WHEN", "CLASSIFY", "RATE_", "OVERRIDDEN"])
def test_a_variable_of_no_option_lists_the_options(rest: str) -> None:
    told = complaint({f"{PREFIX}CRM_TASKS_SYNC_{rest}": "x"})
    assert told.startswith(f"{PREFIX}CRM_TASKS_SYNC_{rest}: names no option of 'crm.tasks.sync' (there are ON, QUEUE, ")


def test_two_handlers_whose_names_are_one_in_capitals_cannot_be_told_apart() -> None:
    both = registry("push.owner", "Push_Owner")
    told = complaint({f"{PREFIX}PUSH_OWNER_RATE": "5/s"}, both)
    assert told.startswith(f"{PREFIX}PUSH_OWNER_RATE: could be rate of 'push.owner' or rate of 'Push_Owner'")
    assert override(both, {}) == both, "which is nobody's trouble while nothing is said of them"
    told = complaint({f"{PREFIX}PUSH_TEAM_RATE": "5/s"}, registry("push", "push_team"))
    assert "could be team_rate of 'push' or rate of 'push_team'" in told
    assert override(registry("push", "push_team"), {f"{PREFIX}PUSH_TEAM_ATTEMPTS": "2"})["push_team"].attempts == 2


@pytest.mark.parametrize(
    ("decorated", "said", "blamed", "problem"),
    [
        ({"order_by": None}, {"CONFLATE": "on"}, "CONFLATE", "joins changes that wait in one lane"),
        ({"conflate": True}, {"ORDER_BY": "none", "RATE": "5/s"}, "ORDER_BY", "conflate of handler 'push' joins"),
        ({"late": "all"}, {"ON": "message.*"}, "ON", "late of handler 'push' is about changes of an owner"),
        ({}, {"ATTEMPTS": "2", "RETRIES": "1"}, "RETRIES", "means attempts, less one"),
        ({}, {"ORDER_BY": "none", "ON_EXHAUSTED": "block"}, "ON_EXHAUSTED", "would hold back nothing"),
    ],
)
def test_what_cannot_go_together_is_named_by_the_variable_that_made_it_so(
    decorated: dict[str, Any], said: dict[str, str], blamed: str, problem: str
) -> None:
    found = {f"{PREFIX}PUSH_{option}": value for option, value in said.items()}
    assert complaint(found, registry(**decorated)).startswith(f"{PREFIX}PUSH_{blamed}: {problem}")


def test_attempts_of_the_environment_stand_above_retries_of_the_decorator() -> None:
    assert overridden(of=registry(retries=3), ATTEMPTS="9").attempts == 9


def test_variables_are_read_as_the_settings_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case, from .env too, the environment above it, and an empty one is none."""
    (tmp_path / ".env").write_text(
        f"{PREFIX}PUSH_RATE=5/s\n{PREFIX}PUSH_QUEUE=file\n{PREFIX}PUSH_BATCH=\n{PREFIX.lower()}push_late=all\n"
    )
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv(f"{PREFIX}PUSH_QUEUE", "process")
    monkeypatch.setenv(f"{PREFIX}PUSH_TIMEOUT", "")
    found = {name: value for name, value in variables().items() if name.startswith(PREFIX)}
    assert found == {f"{PREFIX}PUSH_RATE": "5/s", f"{PREFIX}PUSH_QUEUE": "process", f"{PREFIX}PUSH_LATE": "all"}


def test_a_dotenv_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    with pytest.raises(ConfigurationError, match=r"^\.env: is not UTF-8 text$"):
        variables()


def test_a_worker_does_not_start_with_a_variable_of_nothing(tmp_path: Path) -> None:
    """The real thing: what ``celery -A worker worker`` imports, with a ``.env`` where it runs."""
    (tmp_path / ".env").write_text(f"{PREFIX}LOGG_RATE=5/s\n")
    command = [sys.executable, "-c", "import worker.celery"]
    run = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"handoff: {PREFIX}LOGG_RATE: names no handler (there are LOG)\n"
