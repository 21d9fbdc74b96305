"""The harness finds out when a safeguard of ownership or progress is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.judged import breaks_what_it_should, holds

LONG = ("lease", "one-lane")

pytestmark = pytest.mark.timeout(600)  # for machines that have other things to do: it takes seconds


@pytest.mark.parametrize("name", ["fencing", *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_a_missing_safeguard_is_found(name: str, tmp_path: Path) -> None:
    breaks_what_it_should(name, tmp_path)


def test_an_owner_that_was_stopped_past_its_lease_does_no_harm(tmp_path: Path) -> None:
    holds("fencing", tmp_path)
