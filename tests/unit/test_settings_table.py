"""The table of settings is made from the code and says what the code does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from worker.ops import settings_table
from worker.ops.cli import main
from worker.settings import Settings, seconds


def test_every_setting_has_a_row_with_a_meaning() -> None:
    table = settings_table.rows()
    assert len(table) == len(Settings.model_fields)
    assert all(row.name.startswith("HANDOFF_") and row.meaning.endswith((".", ")")) for row in table)


def test_defaults_are_written_as_one_would_write_them() -> None:
    defaults = {row.name: row.default for row in settings_table.rows()}
    assert defaults["HANDOFF_SIGNATURE_MAX_AGE"] == "6h5m"
    assert defaults["HANDOFF_DEDUP_WINDOW"] == "24h"
    assert defaults["HANDOFF_MEMORY"] == "90d"
    assert defaults["HANDOFF_GAP_WAIT"] == "auto"
    assert defaults["HANDOFF_MAX_BODY"] == "1MiB"
    assert defaults["HANDOFF_HANDLERS"] == "worker.handlers.log"
    assert defaults["HANDOFF_WEBHOOK_SECRET"] == "none"


def test_written_as_environment_variables_the_defaults_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in settings_table.rows():
        if row.default not in {"none", "HANDOFF_REDIS_URL"}:
            monkeypatch.setenv(row.name, row.default)
    written = Settings().model_dump()
    monkeypatch.undo()
    assert written == Settings().model_dump() | {"partitions": 16, "handlers": ["worker.handlers.log"]}


@given(st.integers(1, 10**7).map(float) | st.integers(1, 999).map(lambda ms: ms / 1000))
def test_a_duration_reads_back_as_it_was(duration: float) -> None:
    assert seconds(settings_table.duration_text(duration)) == pytest.approx(duration)


def test_the_command_prints_the_table_in_three_forms() -> None:
    run = CliRunner().invoke
    assert "HANDOFF_REDIS_URL" in run(main, ["settings"]).output
    assert run(main, ["settings", "--markdown"]).output.startswith("| Setting | Default | Meaning |")
    first = json.loads(run(main, ["settings", "--json"]).output)[0]
    assert set(first) == {"name", "meaning", "default"}


def test_it_prints_those_of_what_comes_with_handoff_too() -> None:
    assert "HANDOFF_MEMBERS" in CliRunner().invoke(main, ["settings", "members"]).output
    assert CliRunner().invoke(main, ["settings", "log"]).output == "log has no settings.\n"
    unknown = CliRunner().invoke(main, ["settings", "fax"])
    assert unknown.exit_code == 2
    assert "no handler 'fax' comes with Handoff" in unknown.output
