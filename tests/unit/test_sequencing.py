"""The corners of ordering, one story each; tests/property has what must hold of every story."""

from __future__ import annotations

import pytest

from worker.core.envelope import Envelope, Unreadable
from worker.core.lateness import GapWait
from worker.core.sequencing import (
    Arrival,
    Delivery,
    Plan,
    Policy,
    Proof,
    State,
    TeamState,
    fingerprint,
    plan,
)

POLICY = Policy(gap_wait=GapWait(fixed_ms=100), dedup_window_ms=10_000)
T0 = 50_000


def event(seq: int, name: str = "", team: str = "t", at: int | None = T0, **more: str | None) -> Envelope:
    return Envelope(name or f"e{seq}", seq, team, "tag.created", at, more.get("prospect"), more.get("assignee"))


class Story:
    """A state that goes from plan to plan. Times are ms after T0; entries are numbered."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.state = State()
        self.entries = 0

    def tell(
        self, *contents: Envelope | Unreadable | Proof, at: int = 0, clock: int | None = None, now: int | None = None
    ) -> Plan:
        items: list[Delivery | tuple[str, Proof]] = []
        for content in contents:
            self.entries += 1
            entry = f"{T0 + at}-{self.entries}"
            items.append((entry, content) if isinstance(content, Proof) else Delivery(entry, T0 + at, content))
        time = T0 + (at if clock is None else clock)
        return plan(self.state, items, time, self.policy, ["t"], now=None if now is None else T0 + now)

    @property
    def watermark(self) -> int | None:
        return self.state.teams["t"].watermark

    @property
    def held(self) -> list[str]:
        return [arrival.event.id for arrival in self.state.teams["t"].held]


def out(decided: Plan) -> list[str]:
    return [released.arrival.event.id + ("!" if released.late else "") for released in decided.released]


def begun(policy: Policy = POLICY, watermark: int = 5) -> Story:
    story = Story(policy)
    story.tell(Proof("t", watermark))
    return story


def test_first_contact_waits_and_then_starts_at_the_lowest_number_that_came() -> None:
    story = Story()
    assert out(story.tell(event(9), event(7), event(8))) == []
    assert out(story.tell(at=99)) == []
    assert out(story.tell(at=100)) == ["e7", "e8", "e9"]
    assert story.watermark == 9


def test_first_contact_gives_up_only_as_far_as_somebody_has_waited_long_enough() -> None:
    story = Story()
    story.tell(event(5))
    story.tell(event(7), at=50)
    decided = story.tell(at=100)
    assert (out(decided), story.held, decided.deadlines) == (["e5"], ["e7"], {"t": T0 + 150})


def test_numbers_may_begin_at_zero() -> None:
    story = Story()
    assert out(story.tell(event(0), at=0, clock=100)) == ["e0"]
    assert story.watermark == 0
    assert out(story.tell(event(1))) == ["e1"]
    assert out(story.tell(event(0, "twin"))) == ["twin!"]


def test_number_zero_is_no_watermark_of_its_own() -> None:
    """0 is false in Python and a number here: a team at 0 is not a team never heard of."""
    story = begun(watermark=0)
    assert out(story.tell(event(1))) == ["e1"]


def test_a_proof_makes_first_contact_needless() -> None:
    story = Story()
    story.tell(event(4), event(6), event(9))
    decided = story.tell(Proof("t", 6))
    assert (out(decided), story.watermark, story.held) == (["e4", "e6"], 6, ["e9"])
    assert out(story.tell(event(7), event(8))) == ["e7", "e8", "e9"]


def test_a_proof_takes_along_what_comes_right_after_it_and_never_turns_back() -> None:
    story = begun()
    story.tell(event(8), event(9))
    assert out(story.tell(Proof("t", 7))) == ["e8", "e9"]
    assert out(story.tell(Proof("t", 3))) == []
    assert story.watermark == 9


def test_a_proof_of_a_team_never_heard_of_is_kept_for_its_first_event() -> None:
    story = Story()
    assert story.tell(Proof("t", 41)).deadlines == {"t": None}
    assert out(story.tell(event(42))) == ["e42"]


def test_twins_go_out_both_by_time_then_id() -> None:
    story = begun()
    twins = [event(7, "late", at=2), event(7, "b", at=1), event(7, "a", at=1), event(7, "when", at=None)]
    decided = story.tell(*twins)
    assert decided.counts["twins"] == 3
    assert out(story.tell(event(6))) == ["e6", "when", "a", "b", "late"]


def test_a_twin_of_what_is_out_already_is_marked_and_the_watermark_stays() -> None:
    story = begun()
    decided = story.tell(event(6), event(6, "twin"))
    assert (out(decided), story.watermark, decided.counts["twins"]) == (["e6", "twin!"], 6, 1)


def test_a_bound_of_one_keeps_one() -> None:
    story = begun(Policy(POLICY.gap_wait, held_max=1))
    assert out(story.tell(event(9))) == []
    assert out(story.tell(event(7))) == ["e7"]
    assert out(story.tell(event(11))) == ["e9"]
    assert out(story.tell(event(12))) == ["e11", "e12"]
    assert story.held == []


def test_a_lowered_bound_is_reached_at_the_next_arrival() -> None:
    story = begun()
    story.tell(*(event(seq) for seq in (10, 20, 30, 40)))
    story.policy = Policy(POLICY.gap_wait, held_max=2)
    assert out(story.tell(event(50))) == ["e10", "e20", "e30"]


def test_a_bound_in_bytes_lets_the_lowest_go_until_the_bodies_fit() -> None:
    """Also what lies above a body that is larger than the bound all by itself."""
    policy = Policy(POLICY.gap_wait, held_bytes=100)
    state = State()

    def tell(*sizes: tuple[int, int]) -> Plan:
        items = [Delivery(f"{T0}-{seq}", T0, event(seq), size) for seq, size in sizes]
        return plan(state, items, T0, policy, ["t"])

    plan(state, [("0-1", Proof("t", 5))], T0, policy)
    assert out(tell((10, 40), (12, 40), (14, 20))) == []
    decided = tell((20, 50))
    assert (out(decided), decided.counts["overflowed"]) == (["e10", "e12"], 2)
    assert out(tell((16, 30))) == []
    assert out(tell((18, 101))) == ["e14", "e16", "e18"]
    assert [arrival.event.id for arrival in state.teams["t"].held] == ["e20"]
    assert out(tell((30, 51))) == ["e20"]


def test_an_end_of_waiting_takes_along_the_lower_ones_that_came_later() -> None:
    story = begun()
    story.tell(event(9))
    story.tell(event(7), event(12), at=60)
    decided = story.tell(at=100)
    assert (out(decided), story.held, decided.deadlines) == (["e7", "e9"], ["e12"], {"t": T0 + 160})


def test_an_end_of_waiting_takes_along_all_whose_wait_is_over_and_what_comes_right_after() -> None:
    story = begun()
    story.tell(event(7), event(9))
    story.tell(event(10), event(12), at=60)
    assert (out(story.tell(at=100)), story.held) == (["e7", "e9", "e10"], ["e12"])


def test_a_late_event_does_not_turn_the_watermark_back() -> None:
    story = begun()
    assert out(story.tell(event(3))) == ["e3!"]
    assert story.watermark == 5
    assert out(story.tell(event(4), event(6))) == ["e4!", "e6"]


def test_the_next_deadline_is_that_of_the_longest_waiting_not_of_the_lowest() -> None:
    story = begun()
    story.tell(event(9))
    assert story.tell(event(7), at=60).deadlines == {"t": T0 + 100}


def test_a_clock_that_goes_back_ends_no_wait() -> None:
    story = begun()
    story.tell(event(9), at=50)
    decided = story.tell(event(11), at=40, clock=-500)
    assert (out(decided), decided.deadlines) == ([], {"t": T0 + 140})


def test_a_team_that_is_due_and_holds_nothing_is_taken_off_the_list() -> None:
    story = Story()
    assert story.tell().deadlines == {"t": None}


def test_what_is_held_and_let_go_in_one_batch_leaves_no_trace() -> None:
    story = begun()
    decided = story.tell(event(7), event(6))
    assert (out(decided), decided.held, decided.unheld) == (["e6", "e7"], {}, [])
    story.tell(event(9))
    decided = story.tell(event(8))
    assert [arrival.event.id for arrival in decided.unheld] == ["e9"]


def test_an_id_is_its_teams_own() -> None:
    story = begun()
    decided = story.tell(event(6, "same"), event(6, "same", team="u"), event(6, "same"))
    assert (out(decided), len(decided.duplicates)) == (["same"], 1)
    assert len(decided.held) == 1
    marks = {
        fingerprint(*pair) for pair in [("a", "b"), ("ab", ""), ("", "ab"), ("a\0b", "c"), ("a", "b\0c"), ("1", ":")]
    }
    assert len(marks) == 6


def test_a_repeat_of_a_held_event_is_a_duplicate_though_its_id_is_forgotten() -> None:
    story = begun()
    story.tell(event(9))
    story.state.seen.clear()
    decided = story.tell(event(9))
    assert (len(decided.duplicates), story.held, decided.held) == (1, ["e9"], {})


@pytest.mark.parametrize(("at", "now", "told"), [(10_000, 10_000, True), (10_001, 10_001, False), (0, 10_001, False)])
def test_age_counts_when_the_id_is_looked_up_not_when_the_delivery_arrived(at: int, now: int, told: bool) -> None:
    """After a long absence the id of what came first may be forgotten, and its repeat wait in the inbox, young."""
    story = begun()
    decided = story.tell(event(3), at=at, now=now)
    assert (out(decided), [q.reason for q in decided.quarantined]) == ((["e3!"], []) if told else ([], ["too_old"]))


def test_what_a_person_vouches_for_goes_out_though_it_is_old_and_its_id_was_seen() -> None:
    story = begun()
    assert [q.reason for q in story.tell(event(3), at=10_001).quarantined] == ["too_old"]
    assert story.tell(event(3), at=10_002).duplicates
    delivery = Delivery("9-9", T0 + 10_003, event(3), vouched=True)
    assert out(plan(story.state, [delivery], T0 + 10_003, POLICY)) == ["e3!"]


def test_an_old_event_above_the_watermark_is_not_in_doubt() -> None:
    story = begun()
    assert out(story.tell(event(6), at=10**6)) == ["e6"]


def test_one_that_says_no_time_is_never_too_old() -> None:
    story = begun()
    assert out(story.tell(event(3, at=None), at=10**6)) == ["e3!"]


def test_what_cannot_be_read_is_set_aside_with_its_reason_and_touches_no_team() -> None:
    decided = Story().tell(Unreadable("bad_seq", "seq is not an integer"))
    assert [(q.reason, q.detail) for q in decided.quarantined] == [("bad_seq", "seq is not an integer")]
    assert decided.seen == []


def test_a_late_event_of_a_prospect_without_newer_news_is_no_stale_one() -> None:
    story = begun()
    story.tell(event(6, prospect="p", assignee="new"))
    decided = story.tell(event(4, prospect="p", assignee="old"), event(3, prospect="q", assignee="x"))
    assert [released.change and released.change.stale for released in decided.released] == [True, False]
    assert (out(decided), decided.counts["late"], decided.counts["stale"]) == (["e4!", "e3!"], 2, 1)
    assert list(decided.owners) == [("t", "q")]


LEARNING = Policy(gap_wait=GapWait(least_ms=0), dedup_window_ms=10**9)


def test_a_filled_gap_is_as_late_as_the_first_above_it_had_waited() -> None:
    story = begun(LEARNING)
    story.tell(event(9), at=0)
    story.tell(event(8), at=30)
    before = list(story.state.lateness.counts)
    story.tell(event(6), at=90)
    assert story.state.lateness.counts[(90).bit_length()] == before[(90).bit_length()] + 1


def test_what_comes_after_its_gap_was_given_up_teaches_to_wait_longer() -> None:
    story = begun(LEARNING)
    story.tell(event(9), at=0)
    assert out(story.tell(at=600)) == ["e9"]
    story.tell(event(7), at=3000)
    assert story.state.lateness.quantile_ms() == 4096


def test_twins_above_a_gap_are_in_order() -> None:
    """A twin is not late for its twin: nothing with a higher number came before it."""
    story = begun(LEARNING)
    story.tell(event(9), at=0)
    before = list(story.state.lateness.counts)
    story.tell(event(9, "twin"), at=400)
    assert story.state.lateness.counts == [before[0] + 1, *before[1:]]


def test_a_duplicate_teaches_nothing() -> None:
    story = begun(LEARNING)
    story.tell(event(9), event(7))
    before = list(story.state.lateness.counts)
    story.tell(event(7), at=500)
    story.state.seen.clear()
    story.tell(event(7), at=500)
    assert story.state.lateness.counts == before


def test_remembered_gaps_are_few() -> None:
    story = begun()
    for number in range(1, 10):
        story.tell(event(5 + 10 * number), at=1000 * number, clock=1000 * number + 100)
    assert [gap[:2] for gap in story.state.teams["t"].skipped] == [(56, 64), (66, 74), (76, 84), (86, 94)]


class Counted(int):
    """A time of arrival that counts how often any is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < int(other)


def test_giving_up_many_gaps_at_once_costs_no_more_than_their_number() -> None:
    """Every number of the team's that we get may have a gap below it; and the lease is only a few seconds long."""
    count = 400
    held = [Arrival(event(2 * at), f"{at}-0", Counted(at), 1) for at in range(1, count + 1)]
    state = State(teams={"t": TeamState(watermark=0, held=held)})
    Counted.compared = 0
    decided = plan(state, [], 10**6, POLICY, ["t"])
    assert (len(decided.released), decided.counts["gaps"]) == (count, count)
    assert state.teams["t"].skipped[-1] == (2 * count - 1, 2 * count - 1, count)
    assert Counted.compared < 4 * count
