"""Every key has a row, every row a bound."""

from __future__ import annotations

import pytest

from tests.soak import families
from tests.soak.families import BOUNDS, BROKER, UNLISTED, Families
from worker.store import keys
from worker.store.keys import PartitionKeys

P = PartitionKeys("soak", 7)


def test_every_row_of_the_table_has_a_bound_and_a_length() -> None:
    assert families.rows().keys() | {BROKER, UNLISTED} == BOUNDS.keys()
    assert set(families.rows().values()) <= families.LENGTH.keys()


@pytest.mark.parametrize(
    ("key", "family"),
    [
        (keys.config("soak"), "config"),
        (keys.rate("soak", "crm"), "rate:{H}"),
        (keys.control("soak", "crm"), "control:{H}"),
        (keys.beats("soak"), "{workers}:beats"),
        (P.bell, "{pNN}:bell"),
        (P.runner_bell("crm"), "{pNN}:bell:H"),
        (P.seen(12345), "{pNN}:seen:N"),
        (P.owner("a:b", "c"), "{pNN}:owner:T:X"),
        (P.lane("crm", "team:prospect"), "{pNN}:lane:H:L"),
        (P.team_rate("crm", "a"), "{pNN}:rate:H:T"),
        ("soak:broker:handoff.sequence", BROKER),
        ("soak:{p07}:news", UNLISTED),
        ("soak:news", UNLISTED),
        ("other:config", UNLISTED),
    ],
)
def test_a_key_is_found_by_its_row(key: str, family: str) -> None:
    assert Families("soak").of(key) == family
