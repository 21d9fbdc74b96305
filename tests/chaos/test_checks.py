"""The checks, on histories made up for them: each finds what breaks its invariant, and excuses what it has to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.check_time import Bounds
from tests.chaos.checker import check
from tests.chaos.history import Books, Call, Committed, Fault, History, Message, Post, Taken, Terms
from tests.chaos.kept import all_away

EVERY = Terms("every", changes=False)
CRM = Terms("crm")
KILL = Fault("kill child", 10.5, 10.5, pids=(7,))
OUTAGE = Fault("kill server", 10.0, 12.0)


def event(seq: int, assignee: str | None = "m", team: str = "a", prospect: str = "p") -> Message:
    return Message(
        f"{team}{seq}", team=team, seq=seq, at_ms=seq, prospect=prospect, names_owner=True, assignee=assignee
    )


def call(handler: Terms, seq: int, start: float, took: float | None = 0.1, team: str = "a", **more: Any) -> Call:
    """Of ``event(seq)``, by process 7; it was cut if it took None."""
    end = None if took is None else start + took
    fields = {"prospect": "p", "assignee": f"m{seq}", "outcome": "cut" if took is None else "done", "pid": 7}
    return Call(handler.name, f"{team}{seq}", team, seq, start, end, **(fields | more))


def history(*calls: Call, events: int = 3, **more: Any) -> History:
    """Three events of one team, with an owner each, accepted at 10.0, and called for as ``calls`` say."""
    messages = [event(seq, f"m{seq}") for seq in range(1, events + 1)]
    done = {
        terms.name: {c.key for c in calls if c.handler == terms.name and c.outcome == "done"} for terms in (EVERY, CRM)
    }
    counts = {f"done:{name}": len(keys) for name, keys in done.items()}
    fields = {
        "messages": messages,
        "posts": [Post(message.key, 9.9, 10.0, 202) for message in messages],
        "handlers": [EVERY, CRM],
        "books": Books(accepted=events, counts=counts),
        "began": 9.0,
        "ended": 60.0,
    }
    return History(calls=calls, **(fields | more))


def good() -> list[Call]:
    return [call(terms, seq, 10 + seq) for terms in (EVERY, CRM) for seq in (1, 2, 3)]


def broken(found: History, bounds: Bounds | None = None) -> list[int]:
    return [finding.number for finding in check(found, bounds) if not finding.held]


def evidence(found: History, number: int) -> str:
    return "\n".join(check(found)[number - 1].evidence)


def test_a_run_in_which_all_went_well_holds() -> None:
    assert broken(history(*good())) == []


def test_all_seven_are_judged_in_the_order_of_the_design() -> None:
    findings = check(history(*good()))
    assert [finding.number for finding in findings] == [1, 2, 3, 4, 5, 6, 7]
    assert len({finding.name for finding in findings}) == 7


# 1. Conservation


def test_an_accepted_event_that_a_handler_was_never_called_for_is_lost() -> None:
    found = history(*good()[:-1])
    assert 1 in broken(found)
    assert "crm was never called to success for a3" in evidence(found, 1)


def test_a_dead_letter_accounts_for_an_event() -> None:
    calls = [*good()[:-1], call(CRM, 3, 13, outcome="failed")]
    books = Books(accepted=3, counts={"done:every": 3, "done:crm": 2}, dead=[("crm", "a3")])
    assert broken(history(*calls, books=books)) == []


def test_an_event_that_was_accepted_and_is_nowhere_is_lost() -> None:
    """Nobody was called, so nothing but the answer says that there was one."""
    calls = [c for c in good() if c.seq < 3]
    assert 1 in broken(history(*calls, books=Books(accepted=3, counts={"done:every": 2, "done:crm": 2})))


def test_stale_changes_and_echoes_are_owed_to_nobody() -> None:
    messages = [event(1, "m1"), event(3, "m3"), event(2, "m2"), event(4, "m3")]
    calls = [call(EVERY, seq, 10 + at, late=seq == 2, assignee=None) for at, seq in enumerate((1, 3, 2, 4))]
    calls += [call(CRM, 1, 10.0), call(CRM, 3, 11.0)]
    books = Books(accepted=4, counts={"done:every": 4, "done:crm": 2})
    posts = [Post(message.key, 9.9, 10.0, 202) for message in messages]
    assert broken(history(*calls, messages=messages, posts=posts, books=books)) == []


def test_more_answers_than_stored_deliveries_is_a_loss() -> None:
    found = history(*good(), books=Books(accepted=2, counts={"done:every": 3, "done:crm": 3}))
    assert broken(found) == [1]


def test_books_that_do_not_add_up_are_evidence() -> None:
    found = history(*good())
    assert broken(replace(found, books=replace(found.books, audit=["partition 1, jobs of crm: drift 1"]))) == [1]
    assert set(broken(replace(found, books=replace(found.books, unfinished=2)))) == {1, 6}


def test_what_can_not_be_read_is_in_the_quarantine_and_what_is_not_signed_nowhere() -> None:
    odd = Message("odd", kind="unreadable", body=b"{"), Message("forged", kind="unsigned", body=b"{}")
    found = history(*good())
    found = replace(
        found,
        messages=[*found.messages, *odd],
        posts=[*found.posts, Post("odd", 9, 10, 202), Post("forged", 9, 10, 401)],
        books=replace(found.books, accepted=4, quarantined=[b"{"]),
    )
    assert broken(found) == []
    assert broken(replace(found, books=replace(found.books, quarantined=[]))) == [1]
    assert broken(replace(found, posts=[*found.posts[:-1], Post("forged", 9, 10, 202)])) == [1]


def test_what_cancels_out_is_told_to_no_conflating_handler() -> None:
    joined = replace(CRM, conflates=True)
    calls = [*good()[:3], call(CRM, 3, 13, absorbed=("a2",))]
    books = Books(accepted=3, counts={"done:every": 3, "done:crm": 1, "conflated:crm": 2})
    assert broken(history(*calls, handlers=[EVERY, joined], books=books)) == []
    fewer = replace(books, counts={**books.counts, "conflated:crm": 1})
    assert broken(history(*calls, handlers=[EVERY, joined], books=fewer)) == [1]


# 2. Order


def test_a_call_for_a_lower_number_is_out_of_order_unless_it_is_late() -> None:
    calls = good()[:3]
    calls += [call(CRM, 1, 11), call(CRM, 3, 12), call(CRM, 2, 13, late=True, stale=True)]
    assert broken(history(*calls)) == []
    assert broken(history(*calls[:-1], replace(calls[-1], late=False))) == [2]


def test_a_stretch_that_a_crash_makes_come_again_is_in_order() -> None:
    calls = [*good(), call(CRM, 2, 16), call(CRM, 3, 17)]
    assert broken(history(*calls, faults=[Fault("kill", 13.0, 13.0, pids=(7,))])) == []


def test_a_call_that_does_not_wait_for_the_one_before_it_is_out_of_order() -> None:
    calls = [*good()[:4], call(CRM, 2, 12, 5.0), call(CRM, 3, 13)]
    assert broken(history(*calls)) == [2]


def test_a_job_starts_after_a_dead_letter_and_not_before() -> None:
    failed = call(CRM, 2, 12, 0.5, outcome="failed")
    books = Books(accepted=3, counts={"done:every": 3, "done:crm": 2}, dead=[("crm", "a2")])
    assert broken(history(*good()[:4], failed, call(CRM, 3, 13), books=books)) == []
    assert broken(history(*good()[:4], failed, call(CRM, 3, 12.2), books=books)) == [2]


# 3. Uniqueness


@pytest.mark.parametrize(
    ("fault", "excused"),
    [
        (None, False),
        (Fault("kill child", 13.2, 13.2, pids=(7,)), True),
        (Fault("kill child", 13.2, 13.2, pids=(8,)), False),
        (Fault("kill child", 25.0, 25.0, pids=(7,)), False),
        (Fault("stop child", 12.9, 19.0, pids=(7,)), True),
        (Fault("kill server", 13.0, 14.0), True),
        (Fault("kill server", 5.0, 6.0), False),
        (Fault("half-open connections", 8.0, 18.0), True),
        (Fault("terminate worker", 13.0, 13.0, pids=(7,), crash=False), False),
    ],
)
def test_a_repeat_needs_something_that_happened_to_the_call_before(fault: Fault | None, excused: bool) -> None:
    found = history(*good(), call(CRM, 3, 30), faults=[fault] if fault else [])
    assert broken(found) == ([] if excused else [3])


def test_a_failed_call_is_repeated_and_one_that_is_under_way_is_not() -> None:
    failed = call(CRM, 3, 13, 0.5, outcome="failed")
    assert broken(history(*good()[:5], failed, call(CRM, 3, 14))) == []
    assert broken(history(*good()[:5], failed, call(CRM, 3, 13.2))) == [3]


def test_a_process_that_comes_to_itself_and_calls_what_others_have_done_is_found() -> None:
    """It was stopped from 11 to 16; by then process 8 had done all, undisturbed."""
    calls = [*good()[:3], call(CRM, 1, 11, 5.5), *(call(CRM, seq, 15 + seq / 10, 0.01, pid=8) for seq in (1, 2, 3))]
    stop = Fault("stop child", 11.1, 16.5, pids=(7,))
    assert broken(history(*calls, faults=[stop])) == []
    found = history(*calls, call(CRM, 2, 16.6), faults=[stop])
    assert 3 in broken(found)


def test_two_successes_of_one_event_in_the_ledger_are_one_too_many() -> None:
    assert broken(history(*good(), books=Books(accepted=3, counts={"done:every": 3, "done:crm": 4}))) == [3]


# 4. Convergence


def test_the_last_call_for_a_prospect_has_to_have_its_newest_owner() -> None:
    calls = [*good(), call(CRM, 2, 20, late=True)]
    assert 4 in broken(history(*calls, faults=[OUTAGE]))
    assert 4 not in broken(history(*calls[:-1], replace(calls[-1], stale=True)))


# 5 and 6. Isolation and progress


def waiting(seconds: float) -> list[Call]:
    """A job of crm that waited so long for its call."""
    return [*good()[:5], call(CRM, 3, 12.1 + seconds)]


def test_a_job_that_is_due_and_forgotten_is_no_progress() -> None:
    assert broken(history(*waiting(19))) == []
    assert broken(history(*waiting(21))) == [6]


def test_a_job_that_was_never_called_waits_to_the_end() -> None:
    assert {1, 6} <= set(broken(history(*good()[:5])))


def test_the_time_of_a_fault_does_not_count_and_what_happens_to_one_process_begins_it_anew() -> None:
    assert broken(history(*waiting(30), faults=[Fault("kill server", 15, 25)])) == []
    assert broken(history(*waiting(30), faults=[Fault("stop child", 25, 41, pids=(8,))])) == []
    assert broken(history(*waiting(45), faults=[Fault("stop child", 20, 50, pids=(8,))])) == [6]


def test_nobody_is_to_blame_for_the_time_in_which_a_handlers_only_worker_starts_again() -> None:
    found = history(*waiting(40), nobody={"crm": [(20.0, 50.0)], "every": []})
    assert broken(found) == []
    assert broken(replace(found, nobody={"every": [(20.0, 50.0)]})) == [6]
    assert all_away([[(1, 5), (7, 9)], [(4, 8)]]) == [(4, 5), (7, 8)]
    assert all_away([]) == all_away([[(1, 5)], []]) == []


def test_a_job_that_waits_for_a_call_that_hangs_was_not_isolated() -> None:
    hangs = call(CRM, 9, 12.0, 15.0, team="stuck", prospect=None)
    assert broken(history(*waiting(12), hangs)) == [5]
    assert broken(history(*waiting(8), hangs)) == []


def test_a_post_that_is_refused_when_nothing_is_wrong_is_no_progress() -> None:
    found = history(*good())
    refused = Post("a1", 40.0, 40.1, 503)
    assert broken(replace(found, posts=[*found.posts, refused])) == [6]
    assert broken(replace(found, posts=[*found.posts, refused], faults=[Fault("full server", 30, 35)])) == []


def test_a_message_that_was_never_accepted_is_no_progress() -> None:
    found = history(*good())
    lost = event(9, team="b")
    assert 6 in broken(replace(found, messages=[*found.messages, lost], posts=[*found.posts, Post("b9", 10, 11, 0)]))


# 7. Single writer


def test_a_commit_after_somebody_elses_lease_is_by_a_process_that_had_lost_its_own() -> None:
    taken = [Taken("lane", 1, 10.0, 10.1, 7), Taken("lane", 2, 15.0, 15.1, 8)]

    def with_commit(sent: float, accepted: bool) -> History:
        return history(*good(), taken=taken, committed=[Committed("lane", 1, sent, accepted, 7)])

    assert broken(with_commit(15.05, True)) == [], "nobody knows which came first"
    assert broken(with_commit(15.2, False)) == []
    assert broken(with_commit(15.2, True)) == [7]


def test_the_latest_owner_may_commit() -> None:
    taken = [Taken("lane", 1, 10.0, 10.1, 7), Taken("lane", 2, 15.0, 15.1, 8)]
    assert broken(history(*good(), taken=taken, committed=[Committed("lane", 2, 16.0, True, 8)])) == []
