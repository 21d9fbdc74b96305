"""Fixtures of the tests that run the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_kit import Installation
from worker.settings import Settings


@pytest.fixture
def installation(server_url: str, prefix: str, tmp_path: Path) -> Iterator[Installation]:
    """A server on which nothing has started yet, under a prefix of its own."""
    found = Installation(Settings(redis_url=server_url, prefix=prefix, partitions=4), tmp_path)
    yield found
    found.client.close()
