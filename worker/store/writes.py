"""Packs commands for commit.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from worker.store.scripts import Word

CHUNK: Final = 2000
"""Arguments per command: Lua's unpack takes about 8,000. Even, so that pairs stay together."""


class Writes:
    """Commands for commit.lua, packed: each key once in KEYS, long commands in chunks."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._commands: list[tuple[str, int, list[Word]]] = []

    @property
    def keys(self) -> list[str]:
        return list(self._index)

    def add(self, command: str, key: str, arguments: Sequence[Word], *, always: Sequence[Word] = ()) -> None:
        """A command on one key; one with more arguments than a chunk is split, and one with none is left out."""
        index = self._index.setdefault(key, len(self._index) + 1) if arguments else 0
        for start in range(0, len(arguments), CHUNK):
            self._commands.append((command, index, [*always, *arguments[start : start + CHUNK]]))

    def words(self, offset: int) -> list[Word]:
        """All commands as ARGV; ``offset`` keys come before these in KEYS."""
        packed: list[Word] = []
        for command, index, arguments in self._commands:
            packed += (len(arguments) + 2, command, index + offset)
            packed += arguments
        return packed
