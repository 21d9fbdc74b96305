"""What README.md says is what is so: its tables, its commands, its example."""

import re
import tomllib
from pathlib import Path

import click
import pytest

import worker
from tests import access
from tests.handler_kit import importing
from worker import api
from worker.ops import settings_table
from worker.ops.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def between(name: str) -> str:
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", README, re.DOTALL)
    assert found is not None, f"README.md has no {name}"
    return found[1]


def consoles() -> list[str]:
    """Every command of the README's console blocks, comments and settings before it taken off."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]
    return [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command) for command in commands]


def test_the_settings_table_is_the_code_s() -> None:
    """`handoff settings --markdown` prints it; paste that between the marks."""
    assert between("settings").strip() == settings_table.as_markdown(settings_table.rows()).strip()


@pytest.mark.parametrize("name", settings_table.shipped_names())
def test_the_settings_of_what_comes_with_it_are_the_code_s(name: str) -> None:
    """`handoff settings NAME --markdown` prints it; paste that between its marks."""
    with importing():
        table = settings_table.as_markdown(settings_table.shipped_rows(name))
    assert between(f"settings:{name}").strip() == table.strip()


def test_no_table_is_of_what_does_not_come_with_it() -> None:
    assert set(re.findall(r"<!-- settings:(\w+):begin -->", README)) == set(settings_table.shipped_names())


@pytest.mark.parametrize("command", [c for c in consoles() if c.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in consoles() if c.startswith("handoff ")])
def test_every_command_and_option_exists(command: str) -> None:
    words = command.split()[1:]
    found: click.Command = main
    context = click.Context(main)
    while words and isinstance(found, click.Group):
        child = found.get_command(context, words[0])
        assert child is not None, f"handoff has no command {words[0]}"
        found = child
        words = words[1:]
    options = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_processes_are_the_procfile_s() -> None:
    procfile = (ROOT / "Procfile").read_text()
    for command in ("python -m ingress", "celery -A worker worker"):
        assert any(line.startswith(command) for line in consoles())
        assert command in procfile


def test_the_example_is_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_registry", {})
    for block in re.findall(r"```python\n(?!# \w+\.py\n)(.*?)```", README, re.DOTALL):  # those are files of a project
        exec(compile(block, "README.md", "exec"), {})
    spec = api.registered()["push_owner"]
    assert (spec.queue, spec.attempts, spec.timeout, spec.is_async) == ("crm", 10, 10.0, True)
    assert spec.rate is not None
    assert spec.rate.calls == 100
    assert api.registered()["crm.tasks.push_owner"].forward is not None


def test_the_options_table_is_the_decorator_s() -> None:
    table = README.partition("| `@handler(...)` |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert named == set(api.handler.__annotations__) - {"function", "return"}


def test_what_it_imports_is_public() -> None:
    for names in re.findall(r"^from worker import (.+)$", README, re.MULTILINE):
        assert set(names.split(", ")) <= set(worker.__all__)


def test_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_python_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in README


def test_the_rights_that_several_servers_need_are_those_that_the_tests_give() -> None:
    for rights in (access.CLUSTER, access.FSYNC, access.ASKING, *access.SERVERS.values()):
        assert f"`{rights}`" in README
