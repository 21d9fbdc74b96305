"""Holds the rights that deploy/users.acl gives against what a user was seen to use: neither too few nor too many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import redis

from tests import access
from tests.watching import Used, commands_of
from worker.store import scripts

_GROUP: Final = re.compile(r"\(([^)]*)\)")

BELLS: Final = "handoff:broker:"
CHANGING: Final = {"drop", "pause", "replay", "requeue", "revive", "unblock"}
LOOKING: Final = {"audit", "look", "peek", "unread"}
SCRIPTS: Final[Mapping[str, set[str]]] = {
    "ingress": set(scripts.LOADED),
    "worker": set(scripts.NAMES) - CHANGING - LOOKING,
    "operator": CHANGING | LOOKING,
    "monitor": LOOKING,
}
"""Who runs which script. Another one is a worker's until it is named here."""


@dataclass(frozen=True)
class Group:
    """What is granted together: these commands, on these keys and no others."""

    commands: frozenset[str]
    keys: tuple[str, ...]
    channels: tuple[str, ...]

    def allows(self, words: frozenset[str]) -> bool:
        """Whether all keys and channels among the words of a command are among these; a command has one or more."""
        return bool(words) and all(self.holds(word) or word in self.channels for word in words)

    def holds(self, key: str) -> list[str]:
        """The patterns that ``key`` is under."""
        return [pattern for pattern in self.keys if fnmatchcase(key, pattern.replace("[", "[[]"))]


def groups(role: str) -> list[Group]:
    """The rights of a role: those of the line itself, and those in brackets."""
    (line,) = re.findall(rf"^user handoff-{role} (.*)$", access.FILE.read_text(), re.MULTILINE)
    found = []
    for text in (_GROUP.sub("", line), *_GROUP.findall(line)):
        words = text.split()
        found.append(
            Group(
                commands=frozenset(word[1:] for word in words if word.startswith("+")),
                keys=tuple(word.partition("~")[2] for word in words if word.startswith(("~", "%"))),
                channels=tuple(word[1:] for word in words if word.startswith("&")),
            )
        )
    return found


def check(role: str, used: Used, client: redis.Redis) -> None:
    """Fails for a command or a pattern that is granted and was not used, and for one that is needed and not granted.

    Of the scripts that a role runs every command counts, for it may come to each of them.
    """
    assert used.ran.keys() <= SCRIPTS[role], f"{role} ran somebody else's scripts: {used.ran.keys() - SCRIPTS[role]}"
    assert refusals(client) == [], (refusals(client), HINT)
    rights = groups(role)
    needed: list[set[str]] = [set() for _ in rights]
    for command, words in used.calls:
        for place in places(rights, words):
            needed[place].add(command)
    for name in SCRIPTS[role]:
        # The server checks a script's keys all together, and then each of its commands on its own: that which pushes a
        # bell is among the calls that were seen.
        whole = used.ran.get(name, frozenset())
        words = frozenset(word for word in whole if not word.startswith(BELLS))
        pushing = {"lpush"} if words < whole else set()
        for place in places(rights, words):
            needed[place] |= commands_of(name, client) - pushing
    for group, commands in zip(rights, needed, strict=True):
        where = f"handoff-{role}, with {' '.join(group.keys) or 'no keys'}:"
        missing = sorted(commands - group.commands)
        assert not missing, f"{where} no right to +{' +'.join(missing)}: {HINT}"
        needless = sorted(group.commands - commands)
        assert not needless, f"{where} {needless} are granted and never used: take them out of deploy/users.acl"
        every = {word for _, words in used.calls for word in words}
        idle = [pattern for pattern in group.keys if [pattern] not in [group.holds(word) for word in every]]
        assert not idle, f"{where} never named a key of {idle} alone"
        silent = [channel for channel in group.channels if channel not in every]
        assert not silent, f"{where} never used the channels {silent}"


def places(rights: list[Group], words: frozenset[str]) -> list[int]:
    """The groups that a command on these keys is granted in: those of its keys, and none that has others besides."""
    found = [at for at, group in enumerate(rights) if group.allows(words)]
    return [at for at in found if not any({*rights[one].keys} < {*rights[at].keys} for one in found)] or [0]


HINT: Final = "each right that is needed is in deploy/users.acl, under its user, and in no other place"


def refusals(client: redis.Redis) -> list[str]:
    """What the server has refused its users, as ``ACL LOG`` has it."""
    answer: Any = client.acl_log()
    return [" ".join(str(_text(entry[name])) for name in ("username", "reason", "object")) for entry in answer]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
