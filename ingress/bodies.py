"""How much of bodies may be here, of one and of all that are on their way together.

Nobody has to have signed anything to begin a body, so no stranger must be able to fill the memory with halves of them:

- up to ``WHOLE`` bytes, as nearly every delivery has: not counted; what is kept of them is bounded by the number of
  connections;
- larger ones, and those that do not say how large they are: counted. When more than ``PARTS_BYTES`` of them are here,
  the one that has taken the longest is given up: who sends at all takes less time than who waits.
"""

from __future__ import annotations

from typing import Final, Protocol

DISCARD: Final = 8 * 1024 * 1024  # bytes of an oversized body read away, so that the sender gets to see its answer
WHOLE: Final = 32 * 1024
PARTS_BYTES: Final = 64 * 1024 * 1024


class Sender(Protocol):
    """Whose body it is."""

    def give_up(self) -> None:
        """Wait no longer for the rest of it, and ``leave`` the room."""


class Room:
    """The bodies of one event loop that are counted."""

    def __init__(self) -> None:
        self._sizes: dict[Sender, int] = {}  # bytes that came of each, oldest first
        self._kept: dict[Sender, int] = {}  # bytes that are here of each
        self.together = 0

    def size_of(self, sender: Sender) -> int:
        """Bytes that have come of it."""
        return self._sizes.get(sender, 0)

    def count(self, sender: Sender, more: int, *, kept: bool) -> None:
        """``more`` bytes have come. Those that are not ``kept`` take no room, and those before them none any more."""
        self._sizes[sender] = self._sizes.get(sender, 0) + more
        before = self._kept.get(sender, 0)
        self._kept[sender] = now = before + more if kept else 0
        self.together += now - before
        while self.together > PARTS_BYTES and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            oldest.give_up()
            self.leave(oldest)

    def leave(self, sender: Sender) -> None:
        """It has all come, or is given up. No error if it was never counted."""
        if self._sizes.pop(sender, None) is not None:
            self.together -= self._kept.pop(sender)
