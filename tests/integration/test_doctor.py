"""``handoff doctor`` against real servers, each made unsafe in one way."""

from __future__ import annotations

import pytest

from tests.cli_kit import Installation, Ran

pytestmark = pytest.mark.server


def levels(ran: Ran) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in ran.json["findings"]}


def test_a_server_without_append_only_file_is_found(installation: Installation) -> None:
    ran = installation.run("doctor", "--json")
    assert levels(ran)["append-only file"] == "unsafe"
    assert ran.code == 1
    told = installation.run("doctor")
    assert told.code == 1
    assert "appendonly yes" in told.out
