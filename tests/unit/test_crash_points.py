"""The table of crash points is whole: no script and no round trip of several commands is left out of it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ingress
import worker
from tests.crashpoints.points import ALL, WRAPPED, When, Wrapped
from worker.store.scripts import NAMES

ONLY_READ = {
    "ingress.monitor": {"Monitor._ask", "Monitor._check_durability", "Monitor._count", "Monitor._measure"},
    "ingress.workers": {"Workers._ask"},
    "worker.ops.doctor.asking": {"_ask"},
    "worker.ops.doctor.installation": {"_bells"},
    "worker.ops.status": {"_described", "_server"},
    "worker.store.archive": {"Archive.read"},
    "worker.store.backlog": {"_ask", "measure"},
    "worker.store.dead": {"with_events"},
    "worker.store.durability": {"check", "lacking"},
    "worker.store.heartbeats": {"Heartbeats.read"},
    "worker.store.ledger": {"read_ledgers"},
    "worker.store.pages": {"entries_at", "merged"},
    "worker.store.replay": {"Replay._items"},
    "worker.store.trace": {"Tracer._in_lane", "Tracer.hold", "Tracer.indexed"},
}
"""Pipelines of commands that look and change nothing: nobody is worse off for a death in them."""


def test_names_are_used_once() -> None:
    assert len(set(ALL)) == len(ALL)


def test_every_script_has_its_points() -> None:
    for name in NAMES:
        assert {f"script.{name}.{when}" for when in When} <= set(ALL)


@pytest.mark.parametrize("row", WRAPPED, ids=lambda row: row.name)
def test_what_a_point_wraps_is_there(row: Wrapped) -> None:
    module, _, path = row.target.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_every_pipeline_is_in_a_function_that_is_a_point_or_only_reads() -> None:
    wrapped = {row.target.partition(":")[2] for row in WRAPPED}
    missing = [
        f"{module}: {function}"
        for module, function in pipelines()
        if function not in wrapped and function not in ONLY_READ.get(module, set())
    ]
    assert not missing


def pipelines() -> Iterator[tuple[str, str]]:
    """Module and function of every ``.pipeline(`` in the product."""
    for package in (worker, ingress):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            if (
                module.startswith("worker.testing") or module == "worker.store.cluster"
            ):  # which carries others' commands
                continue
            yield from ((module, name) for name in _users(ast.parse(path.read_text()), ""))


def _users(tree: ast.AST, around: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        name = around
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{around}.{node.name}".lstrip(".")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pipeline":
            yield around
        yield from _users(node, name)
