"""Takes one safeguard out of a process, so that the harness can be seen to find out: which invariant breaks then?

Only tests load this (altered.py). A sabotage that finds nothing to take out fails, for it would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sabotage:
    """``breaks``: the invariants that are broken for it, in a scenario made for that (scenarios.py); ``perhaps``: those
    that may be, too."""

    commit: Callable[[], None]
    breaks: tuple[int, ...]
    perhaps: tuple[int, ...] = ()


def _fencing() -> None:
    """No script looks at the token any more."""
    _rewrite(
        "settle", "if holder ~= token or (expected ~= '' and writes ~= tonumber(expected)) then", "if not holder then"
    )
    _rewrite("renew", "if claim and string.match(claim, '^%d+') == ARGV[at] then", "if claim then")
    _rewrite("commit", "if ARGV[5] ~= '' and", "if false and")
    for name in ("commit", "release"):
        _rewrite(name, "if redis.call('GET', KEYS[1]) ~= ARGV[1] then", "if false then")


def _lease() -> None:
    """A claimed lane is free again at once."""
    _rewrite("claim", "redis.call('ZADD', KEYS[1], now + ARGV[1], lane)", "redis.call('ZADD', KEYS[1], now, lane)")
    _rewrite("renew", "now + ARGV[1]", "now")
    _rewrite("settle", "now + ARGV[1]", "now")


def _sweeper() -> None:
    """Nobody rings again for what is due."""
    from worker.runtime.sweeper import PERIOD, Sweeper

    assert callable(Sweeper.sweep)
    Sweeper.sweep = lambda self: PERIOD  # type: ignore[method-assign]


def _dedup() -> None:
    """No event id is ever known."""
    from worker.core import sequencing

    class Forgetful(set[bytes]):
        def __contains__(self, _: object) -> bool:
            return False

    made = sequencing._Sequencer.__init__

    def forgetful(self: Any, *words: Any) -> None:
        made(self, *words)
        self.state.seen = Forgetful()

    sequencing._Sequencer.__init__ = forgetful  # type: ignore[method-assign]


def _order() -> None:
    """Events go out as they come, and none is marked late."""
    from worker.core.sequencing import _Sequencer

    assert callable(_Sequencer._hold)
    assert callable(_Sequencer._receive_late)
    _Sequencer._hold = lambda self, team, arrival: self._release(team, arrival)  # type: ignore[method-assign]
    _Sequencer._receive_late = lambda self, team, arrival, *, vouched: self._release(team, arrival)  # type: ignore


def _staleness() -> None:
    """A change that a newer one has overtaken goes out all the same."""
    from worker.core import sequencing

    true = sequencing.assignee_change
    sequencing.assignee_change = lambda known, event: true(known, event)._replace(stale=False)


def _ack_first() -> None:
    """Jobs are written off as done when they are claimed, before they are called."""
    from worker.store.lanes import LaneStore, Settlement

    claim = LaneStore.claim

    def hasty(self: LaneStore, **terms: Any) -> Any:
        found = claim(self, **terms)
        if found.lanes:
            self.settle([Settlement(found.token, lane.lane, done=len(lane.jobs)) for lane in found.lanes])
        return found

    LaneStore.claim = hasty  # type: ignore[method-assign]


def _answer_first() -> None:
    """A delivery is answered 202 before anybody has stored it."""
    from ingress.intake import Intake, Outcome

    submit = Intake.submit

    def hasty(self: Intake, *words: Any) -> Any:
        submit(self, *words)
        outcome = self._loop.create_future()
        outcome.set_result(Outcome.STORED)
        return outcome

    Intake.submit = hasty  # type: ignore[method-assign]


def _one_lane() -> None:
    """A process takes one lane of a handler at a time, as if all were one."""
    from worker.runtime.executors import LoopExecutor

    made = LoopExecutor.__init__

    def narrow(self: LoopExecutor, spec: Any) -> None:
        made(self, spec)
        assert self.lanes > 1
        self.lanes = 1

    LoopExecutor.__init__ = narrow  # type: ignore[method-assign]


SABOTAGES: dict[str, Sabotage] = {
    "fencing": Sabotage(_fencing, breaks=(7,), perhaps=(1, 2, 3, 4)),
    "lease": Sabotage(_lease, breaks=(3,), perhaps=(2,)),
    "sweeper": Sabotage(_sweeper, breaks=(6,), perhaps=(1, 4)),
    "dedup": Sabotage(_dedup, breaks=(3,)),
    "order": Sabotage(_order, breaks=(2,)),
    "staleness": Sabotage(_staleness, breaks=(4,)),
    "ack-first": Sabotage(_ack_first, breaks=(1,), perhaps=(3, 6)),
    "answer-first": Sabotage(_answer_first, breaks=(1,), perhaps=(4, 6)),
    "one-lane": Sabotage(_one_lane, breaks=(5,)),
}


def _rewrite(script: str, *changes: str) -> None:
    """Have ``source`` give a script with the first text replaced by the second."""
    from worker.store import scripts

    true = scripts.source
    before, after = changes
    assert before in true(script), f"{script}.lua has no {before!r}"
    scripts.source = lambda name: true(name).replace(before, after) if name == script else true(name)  # type: ignore
