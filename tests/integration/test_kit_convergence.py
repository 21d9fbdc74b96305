"""worker.testing's proof of a handler: what converges passes, and each way not to is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import structlog
from hypothesis import Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from worker import AssigneeChange, Context, Retry, api, handler
from worker.testing import Handoff, assert_converges, assert_idempotent, changes, event
from worker.testing.strategies import Hardship, adversarial, hardships, streams


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(api, "_registry", {})
    with structlog.testing.capture_logs():
        yield


class Crm:
    """What a handler writes to."""

    def __init__(self) -> None:
        self.owners: dict[Any, Any] = {}
        self.keys: set[str] = set()

    def reset(self) -> None:
        self.owners.clear()
        self.keys.clear()

    def read(self) -> object:
        return dict(self.owners)


def sets(crm: Crm) -> Callable[..., Any]:
    def push(change: AssigneeChange, ctx: Context) -> None:
        crm.owners[change.team_id, change.prospect.key] = change.assignee_id

    return push


def counts(crm: Crm) -> Callable[..., Any]:
    def push(change: AssigneeChange, ctx: Context) -> None:
        key = change.team_id, change.assignee_id
        crm.owners[key] = crm.owners.get(key, 0) + 1

    return push


def counts_keys(crm: Crm) -> Callable[..., Any]:
    def push(change: AssigneeChange, ctx: Context) -> None:
        crm.keys.add(ctx.idempotency_key)
        crm.owners["calls"] = len(crm.keys)

    return push


def trusts_previous(crm: Crm) -> Callable[..., Any]:
    """Moves a prospect from one owner's list to another's, as if nothing was ever repeated."""

    def push(change: AssigneeChange, ctx: Context) -> None:
        lists = crm.owners
        if change.previous_assignee_id is not None:
            lists[change.previous_assignee_id].remove(change.prospect.key)
        if change.assignee_id is not None:
            lists.setdefault(change.assignee_id, []).append(change.prospect.key)

    return push


def asynchronous(crm: Crm) -> Callable[..., Any]:
    async def push(change: AssigneeChange, ctx: Context) -> None:
        sets(crm)(change, ctx)

    return push


def stumbles(crm: Crm) -> Callable[..., Any]:
    """Fails at first, writes before it fails, and gives one owner up."""

    def push(change: AssigneeChange, ctx: Context) -> None:
        sets(crm)(change, ctx)
        if ctx.attempt == 1:
            raise Retry(after=60)

    return push


def many(crm: Crm) -> Callable[..., Any]:
    def push(given: list[AssigneeChange], ctx: Any) -> None:
        for change in given:
            sets(crm)(change, ctx)

    return push


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (sets, {}),
        (sets, {"order_by": "prospect", "conflate": True}),
        (sets, {"attempts": 1}),
        (asynchronous, {}),
        (stumbles, {}),
        (many, {"batch": 3}),
    ],
)
def test_what_converges_passes(handoff: Handoff, made: Callable[[Crm], Any], options: dict[str, Any]) -> None:
    handler(**options)(made(crm := Crm()))
    assert_converges(handoff, crm.read, reset=crm.reset, examples=12)


@pytest.mark.parametrize(
    ("made", "options", "given"),
    [
        (counts, {}, None),
        (counts, {}, changes("ada")),  # only the end of its process makes two calls of one
        (trusts_previous, {}, None),
        (sets, {"late": "all"}, changes("ada", "ben")),  # called with what is stale, and does not look
    ],
)
def test_each_way_not_to_is_found(
    handoff: Handoff, made: Callable[[Crm], Any], options: dict[str, Any], given: Any
) -> None:
    handler(**options)(made(crm := Crm()))
    with pytest.raises(AssertionError, match=r"delivered as .*, the state is .*, and delivered as .* the calls were"):
        assert_converges(handoff, crm.read, reset=crm.reset, given=given, examples=100)
    assert handoff.crash is None


def test_the_history_may_be_one_s_own(handoff: Handoff) -> None:
    seen: list[str] = []

    @handler(on="message.*")
    def note(message: Any, ctx: Context) -> None:
        if message.id not in seen:
            seen.append(message.id)

    assert_converges(
        handoff,
        lambda: set(seen),
        reset=seen.clear,
        given=[event("message.created", {}) for _ in range(3)],
        examples=20,
    )
    with pytest.raises(AssertionError):
        assert_converges(
            handoff,
            lambda: list(seen),
            reset=seen.clear,
            given=[event("message.created", {}) for _ in range(3)],
            examples=200,
        )


def test_calls_again() -> None:
    crm = Crm()
    for made in (sets, counts_keys, asynchronous):
        assert_idempotent(made(crm), crm.read, reset=crm.reset)
    with pytest.raises(AssertionError, match=r"push is not idempotent: calls 1 to 1 came again"):
        assert_idempotent(counts(crm), crm.read, reset=crm.reset)
    with pytest.raises(AssertionError, match="not idempotent"):
        assert_idempotent(trusts_previous(crm), crm.read, reset=crm.reset, given=changes("ada", "ben", prospect="p"))


def seen(strategy: Any, wanted: Callable[[Any], bool], *, among: int = 1000) -> bool:
    """Whether it draws such a thing at all."""
    find(strategy, wanted, settings=settings(max_examples=among, phases=[Phase.generate], database=None))
    return True


def test_streams_have_all_that_befalls_a_team() -> None:
    def gapped(events: list[Any]) -> bool:
        return any(b.team_id == a.team_id and b.seq > a.seq + 1 for a, b in pairwise(events))

    for wanted in (gapped, lambda events: any(each.type == "thread.unassigned" for each in events)):
        assert seen(streams(), wanted)
    with pytest.raises(NoSuchExample):
        seen(streams(gaps=False, teams=["t"]), gapped, among=50)


EVENTS = changes("ada", "ben", "cy", start=1)


def test_hardships_have_all_that_befalls_a_stream() -> None:
    def seqs(hardship: Hardship) -> list[int]:
        return [each.seq for burst in hardship.bursts for each in burst]

    for wanted in (
        lambda h: seqs(h) == [3, 1, 2],
        lambda h: len(seqs(h)) > 3,
        lambda h: len(h.bursts) == 3,
        lambda h: len(h.bursts) == 2 and h.bursts[1][-1].seq == 1,
    ):
        assert seen(adversarial(EVENTS), wanted)
    assert seen(hardships(EVENTS), lambda h: len(h.crashes) == 2)
    first, second, third = (each.event for each in EVENTS)
    assert str(Hardship(((third, first), (second,)), frozenset({2}))) == "[3 1] [2], killed after call 2"


@settings(max_examples=25, deadline=None, database=None)
@given(adversarial(EVENTS))
def test_no_event_is_ever_left_out(hardship: Hardship) -> None:
    assert {each.seq for burst in hardship.bursts for each in burst} == {1, 2, 3}


def test_without_hypothesis_it_says_so_in_one_line() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from worker.testing import assert_converges, assert_idempotent\n"
        "from worker.errors import ConfigurationError\n"
        "try:\n    import worker.testing.strategies\n"
        "except ConfigurationError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "worker.testing.strategies: needs Hypothesis (pip install hypothesis)\n"
