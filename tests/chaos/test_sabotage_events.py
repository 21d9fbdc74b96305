"""The harness finds out when a safeguard of an event's way from its delivery to its calls is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.judged import breaks_what_it_should

LONG = ("sweeper", "order", "staleness", "ack-first", "answer-first")

pytestmark = pytest.mark.timeout(600)  # for machines that have other things to do: it takes seconds


@pytest.mark.parametrize("name", ["dedup", *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_a_missing_safeguard_is_found(name: str, tmp_path: Path) -> None:
    breaks_what_it_should(name, tmp_path)
