"""pytest plugin, there wherever Handoff is installed: the fixture ``handoff``.

    def test_a_dead_letter(handoff):
        handoff.deliver(change("ada"), change("ben"))
        handoff.run()
        assert [letter.error for letter in handoff.dead] == ["DeadLetter"]

It is the whole road in the test's own process (road.py): the real sequencer and runner, on an embedded server that is
started when the first test asks for it, or on the one that ``--handoff-redis`` names. Not loaded: ``-p no:handoff``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worker.testing.road import Handoff


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--handoff-redis",
        metavar="URL",
        help="Server for the fixture `handoff`: Redis 7.0+ or Valkey 7.2+. Default: an embedded one.",
    )


@pytest.fixture(scope="session")
def handoff_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of the server that the tests' installations are on."""
    url = request.config.getoption("--handoff-redis")
    if url:
        yield url
        return
    from worker.testing.server import embedded

    with embedded() as url:
        yield url


@pytest.fixture
def handoff(handoff_server: str) -> Iterator[Handoff]:
    """An installation of the test's own, empty, with all handlers that were imported: see ``worker.testing.Handoff``.

    Handlers that are defined inside of a test are forgotten after it.
    """
    from worker.api import forget, registered
    from worker.testing.road import Handoff

    before = registered()
    found = Handoff(handoff_server)
    yield found
    found.close()
    new = {name: spec for name, spec in registered().items() if before.get(name) is not spec}
    forget(name for name, spec in new.items() if "<locals>" in getattr(spec.function, "__qualname__", ""))
