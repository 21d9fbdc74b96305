"""Loading handlers: whatever is wrong with a module is one line that an author can act on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import api
from worker.core.changes import Change, ChangeKind
from worker.errors import ConfigurationError
from worker.runtime.registry import load_handlers, router
from worker.settings import Settings

ONE = "from worker import handler\n@handler\ndef push(change, ctx): pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, with a registry of handlers of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(api, "_registry", {})
    monkeypatch.delitem(sys.modules, "worker.handlers.log", raising=False)  # another test may have loaded it
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(*modules: str) -> list[str]:
    return sorted(load_handlers(Settings(handlers=list(modules))))


def complaint(*modules: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*modules)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_handlers_of_all_modules_are_found(folder: Path) -> None:
    (folder / "mine_a.py").write_text(ONE)
    (folder / "mine_b.py").write_text(ONE.replace("push", "pull"))
    assert load("mine_a", "mine_b") == ["pull", "push"]


def test_a_module_that_is_named_twice_is_loaded_once(folder: Path) -> None:
    (folder / "mine_a.py").write_text(ONE)
    assert load("mine_a", "mine_a") == ["push"]


def test_modules_without_a_handler_are_a_mistake(folder: Path) -> None:
    (folder / "mine_a.py").write_text("def push(change, ctx): pass\n")
    assert complaint("mine_a").startswith("HANDOFF_HANDLERS: defines no handler")


def test_a_missing_module_is_named(folder: Path) -> None:
    assert complaint("not_there") == ("HANDOFF_HANDLERS: there is no module 'not_there' (is its folder on PYTHONPATH?)")


@pytest.mark.parametrize("name", ["mine.not_there", "mine.not_there.deeper"])
def test_a_module_missing_from_a_package_is_named(folder: Path, name: str) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").write_text("")
    assert f"there is no module {name!r}" in complaint(name)


def test_a_missing_import_of_a_module_is_the_modules_fault_with_its_place(folder: Path) -> None:
    (folder / "mine_a.py").write_text("import os\nimport not_there\n")
    text = complaint("mine_a")
    assert text.startswith(
        "HANDOFF_HANDLERS: 'mine_a' does not import: ModuleNotFoundError: No module named 'not_there'"
    )
    assert text.endswith(" at mine_a.py:2")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero at mine_a.py:2"),
        ("def f(:\n", "SyntaxError: invalid syntax (mine_a.py, line 1) at mine_a.py:1"),
        ("if True:\nx = 1\n", "at mine_a.py:2"),
        ("raise RuntimeError('two\\nlines')\n", "RuntimeError: two lines at mine_a.py:1"),
        ("raise RuntimeError('x' * 5000)\n", "RuntimeError: xxx"),
        ("import os\nos.environ['NOT_SET_HERE']\n", "KeyError: 'NOT_SET_HERE'"),
        ("x = '\0'\n", "'mine_a' does not import"),
        ("import sys\nsys.exit('no')\n", "SystemExit: no at mine_a.py:2"),
    ],
)
def test_a_module_that_does_not_import_says_why_and_where(folder: Path, source: str, said: str) -> None:
    (folder / "mine_a.py").write_text(source)
    text = complaint("mine_a")
    assert text.startswith("HANDOFF_HANDLERS: 'mine_a' does not import: ")
    assert said in text


def test_an_error_of_the_authors_helper_is_placed_there(folder: Path) -> None:
    (folder / "mine_a.py").write_text("import helper_b\n")
    (folder / "helper_b.py").write_text("\n\n1 / 0\n")
    assert complaint("mine_a").endswith(" at helper_b.py:3")


@pytest.mark.parametrize("name", [".relative", "", "spaced name", "mine_a.py", "1", "..", "a..b"])
def test_what_is_no_modules_name_is_said_to_be_none(folder: Path, name: str) -> None:
    assert complaint(name).startswith("HANDOFF_HANDLERS: ")


def test_two_handlers_of_one_name_are_both_named(folder: Path) -> None:
    (folder / "mine_a.py").write_text(ONE)
    (folder / "mine_b.py").write_text(ONE)
    assert complaint("mine_a", "mine_b") == (
        "handler 'push': is defined twice, in mine_a and mine_b (give one of them another name=)"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("attempts=0", "handler 'push', attempts: must be a whole number"),
        ("timeout=0", "handler 'push', timeout: must be seconds"),
        ("rate='fast'", "handler 'push', rate: must be calls per time"),
        ("name='a b'", "handler 'a b', name: may have letters"),
        ("concurrency=0", "handler 'push', concurrency: must be a whole number"),
    ],
)
def test_a_handlers_wrong_option_is_named(folder: Path, options: str, said: str) -> None:
    (folder / "mine_a.py").write_text(ONE.replace("@handler", f"@handler({options})"))
    assert complaint("mine_a").startswith(said)


def test_the_environment_stands_above_the_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = "from worker import route\nroute(to='crm.push', queue='crm', broker='memory://')\n"
    (folder / "mine_a.py").write_text(sent + ONE.replace("@handler", "@handler(rate='5/s')"))
    monkeypatch.setenv("HANDOFF_HANDLER_PUSH_RATE", "none")
    monkeypatch.setenv("HANDOFF_HANDLER_CRM_PUSH_ORDER_BY", "prospect")
    made = load_handlers(Settings(handlers=["mine_a"]))
    assert (made["push"].rate, made["push"].overridden) == (None, ("rate",))
    assert made["crm.push"].order_by == "prospect"
    assert made["crm.push"].function.__module__ == "worker.runtime.forward"
    assert load_handlers(Settings(handlers=["mine_a"]))["push"].rate is None, "also when it is loaded again"


def test_a_variable_of_nothing_stops_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine_a.py").write_text(ONE)
    monkeypatch.setenv("HANDOFF_HANDLER_PUHS_RATE", "5/s")
    assert complaint("mine_a") == "HANDOFF_HANDLER_PUHS_RATE: names no handler (there are PUSH)"


def test_events_are_routed_by_what_handlers_want_and_remembered(folder: Path) -> None:
    (folder / "mine_a.py").write_text(
        ONE + "@handler(on='message.*')\ndef messages(e, ctx): pass\n@handler(on='*')\ndef everything(e, ctx): pass\n"
    )
    route = router(load_handlers(Settings(handlers=["mine_a"])))
    changed = Change(ChangeKind.ASSIGNED, None, previous_known=False)

    def named(event_type: str, change: Change | None) -> list[str]:
        return [terms.name for terms in route(event_type, change)]

    for _ in range(2):
        assert named("prospect.assigneeChanged", changed) == ["push", "everything"]
        assert named("prospect.assigneeChanged", changed._replace(stale=True)) == ["everything"]
        assert named("thread.assigned", changed._replace(kind=ChangeKind.UNCHANGED)) == ["everything"]
        assert named("message.created", None) == ["messages", "everything"]


def test_a_provider_gone_mad_does_not_fill_the_memory(folder: Path) -> None:
    (folder / "mine_a.py").write_text(ONE)
    route = router(load_handlers(Settings(handlers=["mine_a"])))
    for number in range(5000):
        assert route(f"type.{number}", None) == []
    remembered = next(
        cell.cell_contents
        for cell in route.__closure__ or ()
        if isinstance(cell.cell_contents, dict)  # type: ignore[attr-defined]
    )
    assert len(remembered) <= 1001


def test_without_a_module_changes_are_logged(folder: Path) -> None:
    assert load() == ["log"]


def test_a_dry_run_of_all_calls_nobody(folder: Path) -> None:
    (folder / "mine_a.py").write_text("from worker import handler\n@handler\ndef push(change, ctx): raise SystemExit\n")
    spec = load_handlers(Settings(handlers=["mine_a"], dry_run=True))["push"]
    assert spec.dry_run
    assert spec.function.__name__ == "one"
