"""The whole road behind Sentinels: the primary dies, hangs or is replaced under load, and all goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import servers, topologies
from tests.loads import Load, calls_in, out_of_order, times
from tests.processes import until
from tests.road import running_road
from tests.topologies import Node, Sentinels, in_step

pytestmark = pytest.mark.timeout(300)

TEAMS = [f"team{number}" for number in range(3)]
TAIL = 2.0  # seconds before the primary's end, of which the replica may not have heard everything
HANDLERS = ("plain", "awaited", "rated", "batched")


def ask(sentinels: Sentinels, primary: Node) -> None:
    """As an operator does, before work on the primary's machine. It is a replica then, and can take over again."""
    sentinels.fail_over()


def kill(_sentinels: Sentinels, primary: Node) -> None:
    primary.kill()


def freeze(_sentinels: Sentinels, primary: Node) -> None:
    primary.freeze()


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        pytest.param(servers.KINDS[0], [ask, kill], id="asked for and killed"),
        pytest.param(servers.KINDS[-1], [freeze], id="frozen", marks=pytest.mark.long),
    ],
)
def test_another_primary_takes_over_under_load(
    kind: str,
    ends: list[Callable[[Sentinels, Node], None]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    calls = tmp_path / "calls"
    with (
        topologies.sentinels(kind) as sentinels,
        running_road(
            tmp_path, handlers="tests.integration.steady_handlers", workers=2, state=sentinels.url, gap_wait="1s"
        ) as road,
    ):
        stretches = []  # in which one primary took over from another
        with Load(road.url, road.secret, TEAMS, pause=0.2) as load:
            until(lambda: len(calls_in(calls)) > 60, "work is done", 90)
            for end in ends:
                primary = sentinels.primary()
                began = time.time()
                end(sentinels, primary)
                until(lambda: sentinels.primary() is not primary, "the Sentinels have another primary", 30)  # noqa: B023
                stretches.append((began, time.time()))
                accepted, handled = went_on(load, calls, *stretches[-1])
                if end is ask:
                    until(lambda: in_step(primary), "it is a replica that can take over again", 60)  # noqa: B023
                record_property(f"{end.__name__}_accepted_again_s", accepted)
                record_property(f"{end.__name__}_handled_again_s", handled)
                print(f"{end.__name__}: accepted again after {accepted:.1f} s, handled after {handled:.1f} s")
                if end is freeze:
                    primary.thaw()  # it thinks for a moment that nothing has happened
                time_of_more = time.time()
                until(lambda: len(load.accepted_since(time_of_more)) > 30, "the load goes on", 60)  # noqa: B023
        road.wait_until_done()

        seen = calls_in(calls)
        for name in HANDLERS:
            assert out_of_order(seen, name) == [], name
            count = times(seen, name)
            lost = [place for place, at in load.accepted.items() if not count[place] and not near(at, stretches)]
            assert lost == [], name
            again = [place for place, at in load.accepted.items() if count[place] > 1 and at > stretches[-1][0] + 10]
            assert again == [], name
        for books in road.books():
            assert (books.drift, {one.drift for one in books.handlers.values()}) == (0, {0})
        assert road.handoff("audit").returncode == 0
        assert road.handoff("status").returncode in (0, 1)
        assert topologies.refused([*sentinels.nodes, *sentinels.watchers]) == []


def went_on(load: Load, calls: Path, began: float, ended: float) -> tuple[float, float]:
    """Seconds from ``began`` until a delivery is accepted, and one handled, that the next primary surely got."""
    surely = ended + TAIL
    until(lambda: load.accepted_since(surely), "deliveries are accepted again", 30)
    accepted = min(load.accepted[place] for place in load.accepted_since(ended)) - began
    handled_after = load.accepted_since(surely)[-1]
    until(lambda: times(calls_in(calls), "plain")[handled_after], "one of them is handled", 60)
    return accepted, time.time() - began


def near(at: float, stretches: Sequence[tuple[float, float]]) -> bool:
    """Whether a replica need not have had what was accepted then."""
    return any(began - TAIL < at < ended + TAIL for began, ended in stretches)
