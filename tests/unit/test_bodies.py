"""Who has to go when the bodies that are on their way take more room than there is for them together."""

from __future__ import annotations

import pytest

from ingress import bodies as module
from ingress.bodies import Room


class Sender:
    def __init__(self) -> None:
        self.given_up = 0

    def give_up(self) -> None:
        self.given_up += 1


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS_BYTES", 100)


def test_the_one_that_began_first_goes_when_there_is_no_room() -> None:
    room, senders = Room(), [Sender() for _ in range(3)]
    for sender in senders:
        room.count(sender, 40, kept=True)
    assert [sender.given_up for sender in senders] == [1, 0, 0]
    assert room.together == 80


def test_that_may_be_the_one_that_asks_for_more() -> None:
    room, first, second = Room(), Sender(), Sender()
    room.count(first, 40, kept=True)
    room.count(second, 50, kept=True)
    room.count(first, 40, kept=True)
    assert (first.given_up, second.given_up) == (1, 0)
    assert (room.together, room.size_of(first)) == (50, 0)


def test_one_that_is_over_the_bound_alone_is_read() -> None:
    room, sender = Room(), Sender()
    room.count(sender, 300, kept=True)
    assert sender.given_up == 0


def test_what_is_not_kept_takes_no_room_but_is_counted() -> None:
    room, sender = Room(), Sender()
    room.count(sender, 60, kept=True)
    room.count(sender, 60, kept=False)
    assert (room.together, room.size_of(sender)) == (0, 120)
    room.leave(sender)
    assert (room.together, room.size_of(sender)) == (0, 0)


def test_whoever_leaves_makes_room() -> None:
    room, first, second = Room(), Sender(), Sender()
    for _ in range(3):
        room.count(first, 90, kept=True)
        room.leave(first)
        room.leave(first)
    room.count(second, 90, kept=True)
    assert (first.given_up, second.given_up, room.together) == (0, 0, 90)
