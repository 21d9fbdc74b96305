"""Nothing that comes in is ever run: no pickles, no eval, no shell; scripts are constant texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads

from worker.runtime.config import celery_config
from worker.settings import Settings
from worker.store import scripts

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("worker", "ingress") for path in (ROOT / package).rglob("*.py"))

MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "dbm", "code", "codeop", "yaml"),
    *("jsonpickle", "xmlrpc", "jinja2", "mako"),
}
"""Modules that make code or objects of what they read."""
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput")}
SCRIPT_METHODS = {"eval", "eval_ro", "script_load", "function_load", "fcall"}
"""Ways to give a server a script's text. ``register_script`` is allowed, of a constant or of what scripts.py reads."""


def wrongs(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {name.name}" for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield f"from {module}"
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield f"{name}()"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if (module, name) in METHODS:
                yield f"{module}.{name}()"
            case ast.Call(func=ast.Attribute(attr="eval"), args=[text, *_]) if ast.unparse(text) == "self._texts[name]":
                continue  # scripts.py, whose texts are those of ``source``
            case ast.Call(func=ast.Attribute(attr="script_load"), args=[text]) if constant(text):
                continue
            case ast.Call(func=ast.Attribute(attr=name)) if name in SCRIPT_METHODS:
                yield f".{name}()"
            case ast.Call(func=ast.Attribute(attr="register_script"), args=[text, *_]) if not constant(text):
                yield "a script that is no constant"
            case ast.keyword(arg="shell", value=value) if not (isinstance(value, ast.Constant) and not value.value):
                yield "shell="


def constant(text: ast.expr) -> bool:
    """A constant of the module, or ``source(name)`` of scripts.py, whose names are."""
    return (isinstance(text, ast.Name) and text.id.lstrip("_").isupper()) or ast.unparse(text) == "source(name)"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_runs_nothing_that_it_is_given(path: Path) -> None:
    assert list(wrongs(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from marshal import loads", "import yaml", "import xmlrpc.client"),
        *("eval(text)", "exec(text)", "__import__(name)", "os.system(text)", "subprocess.run(text, shell=True)"),
        *("client.eval(text, 0)", "pipe.script_load(text)", "client.register_script(f'return {text}')"),
        "subprocess.run(text, shell=shell)",
    ],
)
def test_the_look_finds_it(source: str) -> None:
    assert list(wrongs(source)) != []


def test_the_texts_of_scripts_are_constant() -> None:
    """Files of the package, put together of files of the package; none compiles a text that it is given."""
    for name in (*scripts.NAMES, *scripts.LOADED):
        text = scripts.source(name)
        assert text == scripts.source.__wrapped__(name)
        for word in ("loadstring", "load(", "dofile", "setfenv", "_G[", "string.dump"):
            assert word not in text, (name, word)


def test_celery_takes_json_and_nothing_else() -> None:
    app = Celery("handoff-test", set_as_current=False)
    app.config_from_object(celery_config(Settings(), {}))
    assert (app.conf.accept_content, app.conf.task_serializer) == (["json"], "json")
    assert app.conf.result_accept_content in (None, ["json"])
    assert app.conf.event_serializer == "json"


@pytest.mark.parametrize("kind", ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack"])
def test_what_is_not_json_is_refused_before_it_is_read(kind: str) -> None:
    with pytest.raises(ContentDisallowed):
        loads(b"anything", kind, "binary", accept=["json"])
