"""How the sequencer's state is written: small JSON arrays, read and made by msgspec."""

from __future__ import annotations

from typing import Final

import msgspec

from worker.core.changes import Owner
from worker.core.envelope import Envelope
from worker.core.lateness import Lateness
from worker.core.sequencing import Arrival, Gap, TeamState, place

_encode: Final = msgspec.json.encode
_decode_team: Final = msgspec.json.Decoder(tuple[int | None, list[Gap]]).decode
_decode_owner: Final = msgspec.json.Decoder(Owner).decode
_decode_counts: Final = msgspec.json.Decoder(list[float]).decode


class _Held(msgspec.Struct, array_like=True):
    """A held event, without the team, which is in the key. Encoding is stable: the same event is the same bytes."""

    id: str
    type: str
    occurred_ms: int | None
    prospect: str | None
    assignee: str | None
    entry: str
    arrived: int
    size: int


_decode_held: Final = msgspec.json.Decoder(_Held).decode


def arrival_ms(entry: str) -> int:
    """When an entry was appended, ms of the server's clock: the first half of its id."""
    return int(entry.partition("-")[0])


def encode_team(state: TeamState) -> bytes:
    return _encode((state.watermark, state.skipped))


def decode_team(text: bytes | None) -> TeamState:
    """A team's state without its held events, which are a key of their own; None is a team never heard of."""
    if text is None:
        return TeamState()
    watermark, skipped = _decode_team(text)
    return TeamState(watermark, [], skipped)


def encode_owner(owner: Owner) -> bytes:
    return _encode(owner)


def decode_owner(text: bytes) -> Owner:
    return _decode_owner(text)


def encode_lateness(lateness: Lateness) -> bytes:
    return _encode(lateness.dump())


def decode_lateness(text: bytes) -> Lateness:
    return Lateness.restore(_decode_counts(text) if text else None)


def encode_held(arrival: Arrival) -> bytes:
    event, entry, arrived, size = arrival
    return _encode(_Held(event.id, event.type, event.occurred_ms, event.prospect, event.assignee, entry, arrived, size))


def decode_held(team: str, members: list[tuple[bytes, float]]) -> list[Arrival]:
    """A team's held events in release order, from its sorted set's members with their scores."""
    found = []
    for text, seq in members:
        held = _decode_held(text)
        event = Envelope(held.id, int(seq), team, held.type, held.occurred_ms, held.prospect, held.assignee)
        found.append(Arrival(event, held.entry, held.arrived, held.size))
    return sorted(found, key=place)
