"""The command line: quick to answer, one line for what an operator can mend, a traceback for what only we can."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from worker.errors import ConfigurationError
from worker.ops import cli


def test_help_lists_every_command_and_imports_nothing_slow() -> None:
    code = (
        "import sys\nfrom worker.ops.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print('slow:', *sorted({'celery', 'kombu', 'redis', 'httpx', 'rich', 'granian'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "slow:"
    for name in ("dev", "send", "settings"):
        assert f"\n  {name} " in printed


def test_every_command_says_what_it_does_in_its_help() -> None:
    context = click.Context(cli.main)
    for name in cli.main.list_commands(context):
        command = cli.main.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(), name


def test_an_error_of_ours_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ConfigurationError("HANDOFF_BIND", "must be host:port", "for instance 127.0.0.1:8000")

    monkeypatch.setattr(type(cli.main), "get_command", lambda *_: broken)
    result = CliRunner().invoke(cli.main, ["broken"])
    assert result.exit_code == 2
    assert result.output == "Error: HANDOFF_BIND: must be host:port (for instance 127.0.0.1:8000)\n"


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(type(cli.main), "get_command", lambda *_: broken)
    assert isinstance(CliRunner().invoke(cli.main, ["broken"]).exception, RuntimeError)


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(cli.main, ["--version"], prog_name="handoff").output.startswith("handoff 0.")


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli.main, ["nonsense"]).exit_code == 2
