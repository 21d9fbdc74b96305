"""Shows that a handler may be called twice and comes to the same state by whatever way its events came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from worker.core.events import AssigneeChange
from worker.testing.calls import Call, Handler, Subject, spec_of
from worker.testing.events import changes
from worker.testing.road import Crash, Handoff
from worker.testing.running import run

if TYPE_CHECKING:
    from worker.testing.strategies import Hardship


def assert_idempotent(
    handler: Handler,
    read_state: Callable[[], object],
    *,
    reset: Callable[[], object],
    given: Sequence[Subject] | None = None,
) -> None:
    """Assert that calls which come again, as after a crash, change nothing.

    A worker that dies has made calls that nobody wrote down: those are made again, in order, from the first of them on.
    So after each call of ``given`` (default: the history of a prospect), and for each number of calls before it that
    were not written down, ``read_state`` must find what it finds after plain calls. ``reset`` takes the handler's state
    back to the beginning. No server is needed.
    """
    history = changes("ada", "ben", None, "ada") if given is None else given
    spec = spec_of(handler)

    def state(order: Sequence[int]) -> object:
        reset()
        for place, number in enumerate(order):
            run(spec, history[number], attempt=min(2, spec.attempts) if number in order[:place] else 1)
        return read_state()

    plain = range(len(history))
    expected = state(plain)
    for died in range(1, len(history) + 1):
        for first in range(died):
            got = state([*plain[:died], *plain[first:]])
            assert got == expected, (
                f"{spec.name} is not idempotent: calls {first + 1} to {died} came again, from the first of them on; "
                f"then the state is {got!r}, and without that {expected!r}"
            )


def assert_converges(
    handoff: Handoff,
    read_state: Callable[[], object],
    *,
    reset: Callable[[], object],
    given: Sequence[Subject] | None = None,
    examples: int = 50,
) -> None:
    """Assert that the handlers of ``handoff`` end in the same state however their events arrive and whenever their
    process dies: shuffled, doubled, late, with gaps and echoes, calls repeated.

    Each of so many ``examples`` is a stream (default: those of ``strategies.streams``; or always ``given``) that is
    delivered twice, from the beginning, as ``reset`` makes it: once in plain order, and once as Hypothesis has it. What
    ``read_state`` finds after both must be equal. Raises ``AssertionError`` with the simplest way to another state, and
    ``ConfigurationError`` where Hypothesis is not installed.
    """
    from worker.testing.strategies import for_each, plain_and_hard

    def state(hardship: Hardship) -> object:
        reset()
        handoff.clear()
        handoff.crash = _dies_after(handoff.calls, hardship.crashes)
        try:
            for burst in hardship.bursts:
                handoff.deliver(*burst)
                handoff.run()
        finally:
            handoff.crash = None
        return read_state()

    def check(example: tuple[Hardship, Hardship]) -> None:
        plain, hardship = example
        expected = state(plain)
        got = state(hardship)
        assert got == expected, (
            f"delivered as {hardship}, the state is {got!r}, and delivered as {plain} {expected!r}; the calls were "
            + ", ".join(map(_shown, handoff.calls))
        )

    for_each(plain_and_hard(given), examples, check)


def _shown(call: Call) -> str:
    told = (f"{s.seq} ({s.assignee_id!r})" if isinstance(s, AssigneeChange) else str(s.seq) for s in call.changes)
    return f"{call.handler}: {' '.join(told)}"


def _dies_after(calls: Sequence[Call], crashes: frozenset[int]) -> Callable[[Call], None]:
    """Kills the process after the calls of those numbers; none of a later attempt, which may be the last."""

    def crash(call: Call) -> None:
        if len(calls) in crashes and call.exception is None and set(call.attempts) == {1}:
            raise Crash

    return crash
