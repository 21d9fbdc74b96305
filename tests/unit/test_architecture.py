"""Imports point one way: what each part may know of the others, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("worker", "ingress")

# The longest rule that a module's name begins with is the one for it. "=" in front: that module itself, and no other.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "worker.errors": (),
    "worker.lean": (),
    "worker.tls": ("worker.errors",),
    "worker.from_files": ("worker.errors",),
    "worker.address": (),
    "worker.settings": ("worker.address", "worker.errors", "worker.tls", "worker.from_files"),
    "worker.broker": ("worker.address",),
    "worker.messages": (),
    "worker.doorbell": (
        "worker.address",
        "worker.errors",
        "worker.settings",
        "worker.broker",
        "worker.tls",
        "worker.messages",
    ),
    "worker.core": ("worker.core", "worker.errors"),
    "worker.api": ("worker.core", "worker.errors"),
    "=worker": ("worker.api", "worker.core"),
    "worker.store": (
        "worker.store",
        "worker.core",
        "worker.settings",
        "worker.errors",
        "worker.doorbell",
        "worker.tls",
        "worker.address",
    ),
    "worker.runtime": (
        "worker.runtime",
        "worker.store",
        "worker.core",
        "worker.api",
        "worker.doorbell",
        "worker.messages",
        "worker.broker",
        "worker.address",
        "worker.settings",
        "worker.errors",
        "=worker.handlers",
    ),
    "worker.handler_settings": ("worker.settings", "worker.errors", "worker.from_files"),
    "worker.outgoing": (),
    "worker.guarded": ("=worker.outgoing",),
    "worker.member_settings": ("worker.handler_settings",),
    "worker.members": ("=worker.member_settings", "worker.outgoing", "worker.errors"),
    "worker.quiet_hours": (),
    "worker.wording": ("=worker",),
    "worker.messengers": ("worker.wording", "worker.errors"),
    "worker.fields": ("worker.core.events",),
    "worker.salesforce_api": ("worker.outgoing", "worker.errors"),
    "worker.owner_tables": ("=worker",),
    "worker.databases": ("worker.errors",),
    "worker.hubspot_api": ("=worker", "=worker.outgoing"),
    "=worker.handlers": (),
    "worker.handlers": (
        "=worker",
        "=worker.outgoing",
        "=worker.handler_settings",
        "=worker.members",
        "=worker.member_settings",
        "=worker.databases",
        "=worker.messengers",
        "=worker.owner_tables",
        "=worker.quiet_hours",
        "=worker.wording",
        "=worker.errors",
        "=worker.guarded",
        "=worker.fields",
        "=worker.salesforce_api",
        "=worker.hubspot_api",
    ),
    "worker.ops": OURS,
    "worker.testing": OURS,
    "worker.celery": OURS,
    "ingress": (
        "ingress",
        "worker.settings",
        "worker.errors",
        "worker.doorbell",
        "worker.store",
        "worker.core",
        "worker.address",
        "worker.lean",
    ),
    "ingress.__main__": ("ingress", "worker.ops.logs", "worker.settings", "worker.errors"),
}
FOREIGN_TO_CORE = {"redis", "celery", "kombu", "time", "os", "asyncio", "random", "structlog", "socket", "threading"}
CLOCKS = {"now", "utcnow", "today"}
KIT = "worker.testing"  # nothing but tests has any use for it, and what it needs of others' is in one module each
ONLY_IN = {"pytest": "worker.testing.plugin", "hypothesis": "worker.testing.strategies"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for top in OURS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


NAMES = {name for name, _ in modules()}


def imports(name: str, source: str, *, package: bool) -> Iterator[str]:
    """Every module that a source imports, inside functions too; ``from a import b`` is a.b where that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + package]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in NAMES else base


def covers(rule: str, module: str) -> bool:
    return module == rule[1:] if rule.startswith("=") else module == rule or module.startswith(rule + ".")


def wrongs(name: str, source: str, *, package: bool = False) -> list[str]:
    """What is wrong with a module's imports, in words."""
    rules = [rule for rule in MAY_IMPORT if covers(rule, name)]
    if not rules:
        return [f"{name} has no rule in MAY_IMPORT"]
    allowed = MAY_IMPORT[max(rules, key=lambda rule: len(rule.lstrip("=")))]
    found = []
    for module in imports(name, source, package=package):
        ours = module.split(".")[0] in OURS
        if ours and module != name and not any(covers(rule, module) for rule in allowed):
            found.append(f"{name} imports {module}")
        if covers(KIT, module) and not covers(KIT, name):
            found.append(f"{name} imports {module}, which is for tests")
        if ONLY_IN.get(module.split(".")[0], name) != name:
            found.append(f"{name} imports {module}")
        if name.startswith("worker.core") and module.split(".")[0] in FOREIGN_TO_CORE:
            found.append(f"{name} imports {module}")
    if name.startswith("worker.core"):
        calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        found += [
            f"{name} reads the clock: {c.attr}()" for c in calls if isinstance(c, ast.Attribute) and c.attr in CLOCKS
        ]
    return found


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=name) for name, path in modules()])
def test_a_module_imports_what_its_place_allows(name: str, path: Path) -> None:
    assert wrongs(name, path.read_text(), package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("worker.core.sequencing", "import time"),
        ("worker.core.sequencing", "from os import environ"),
        ("worker.core.sequencing", "from redis.client import Redis"),
        ("worker.core.sequencing", "def late():\n    import random"),
        ("worker.core.sequencing", "from worker.settings import Settings"),
        ("worker.core.sequencing", "from worker import settings"),
        ("worker.core.sequencing", "from ..store import keys"),
        ("worker.core.sequencing", "from worker import handler"),
        ("worker.core.sequencing", "datetime.now(UTC)"),
        ("worker.store.keys", "from worker.runtime import loop"),
        ("worker.store.keys", "from worker.api import handler"),
        ("worker.runtime.loop", "from worker.ops import logs"),
        ("worker.runtime.loop", "import worker.ops.logs"),
        ("worker.runtime.loop", "import ingress.app"),
        ("worker.api", "from worker.store import keys"),
        ("worker", "from worker.settings import Settings"),
        ("worker.handlers.log", "from worker.core.changes import ChangeKind"),
        ("worker.handlers.log", "from worker.runtime.registry import router"),
        ("worker.errors", "import worker.settings"),
        ("ingress.app", "from worker.runtime import loop"),
        ("ingress.app", "from worker.ops import logs"),
        ("ingress.app", "from worker import handler"),
        ("ingress.__main__", "from worker.ops import cli"),
        ("worker.ops.dev", "from worker.testing import change"),
        ("worker.handlers.log", "from worker.testing import change"),
        ("worker.testing.running", "import pytest"),
        ("worker.testing.plugin", "from hypothesis import given"),
        ("worker.novelty", ""),
    ],
)
def test_the_check_finds_a_module_that_knows_too_much(name: str, source: str) -> None:
    assert wrongs(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("worker.handlers.log", "from worker import AssigneeChange, handler"),
        ("worker.core.sequencing", "from worker.core.changes import Owner\nfrom collections import Counter"),
        ("worker.core.sequencing", "from .changes import Owner"),
        ("worker.celery", "from worker.ops import logs"),
        ("ingress.__main__", "from worker.ops import logs"),
        ("worker.testing.plugin", "import pytest\nfrom worker.runtime.runner import Runner"),
        ("worker.testing.strategies", "from hypothesis import given"),
    ],
)
def test_the_check_lets_a_modest_one_pass(name: str, source: str) -> None:
    assert wrongs(name, source) == []
