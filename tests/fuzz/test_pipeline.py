"""Any signed bytes through the sequencer on every kind of server: it never stops, and the books balance."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.hostile import NASTY_IDS, bodies
from tests.fuzz.profile import examples
from tests.store_kit import partition_on, to
from worker.core.dispatch import Terms
from worker.core.sequencing import INTERNAL_ERROR
from worker.store.pages import Window
from worker.store.quarantine import requeue, select_quarantine

ROUTE = to(Terms("crm"), Terms("mail", "prospect", conflate=True), Terms("audit", None))
NUMBERS = itertools.count()
deliveries = st.tuples(
    st.none() | st.sampled_from([team for team in NASTY_IDS if team]), st.lists(bodies, min_size=1, max_size=12)
)


@examples(10)
@given(st.lists(deliveries, min_size=1, max_size=4))
def test_whatever_is_accepted_is_released_a_duplicate_or_in_quarantine(
    any_server_url: str, drawn: list[tuple[str | None, list[bytes]]]
) -> None:
    with partition_on(any_server_url, f"q{next(NUMBERS)}", archive_events=20) as partition:
        partition.client.flushdb()
        count = 0
        for team, some in drawn:
            partition.append(*some, *some[:2], team=team)  # some come twice
            count += len(some) + len(some[:2])
        partition.sequence(route=ROUTE)
        books = partition.balanced()
        ledger = books.ledger
        ends = [ledger.get(name, 0) for name in ("released", "duplicates", "quarantined")]
        assert (sum(ends), books.unread, books.held) == (count, 0, 0)
        put_aside = select_quarantine(partition.client, [partition.keys], Window())
        assert len(put_aside) == ends[2]
        assert all(item.reason != INTERNAL_ERROR for item in put_aside), "a fault that nobody foresaw"
        for handler in ("crm", "mail", "audit"):
            for lane in partition.lanes(handler, conflate=handler == "mail").claim(lanes=99, jobs=99, per_lane=9).lanes:
                assert all(job.body for job in lane.jobs)
        requeue(partition.scripts, partition.keys, put_aside)
        partition.sequence(route=ROUTE)
        partition.balanced()
