"""The load of a long run is the one of a short run; and what happened is sorted by partition, and found again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos import workload
from tests.chaos.history import History, Message, Post
from tests.soak import plan, shards, system
from tests.soak.feed import Feed
from tests.soak.shards import Shards
from worker.store.keys import partition_of

PARTITIONS = 8


def test_a_load_that_is_made_as_it_is_sent_is_the_same_load() -> None:
    shape = plan.shape(20, 50)
    made: list[Message] = []
    sent = list(Feed(3, shape, 2, made.append).postings())
    whole = workload.make(3, shape)
    assert [(posting.at, posting.message.key, posting.ingress) for posting in sent] == [
        (sending.at, whole.messages[sending.number].key, sending.ingress) for sending in whole.sendings
    ]
    assert [message.key for message in made] == [message.key for message in whole.messages]
    assert not any(message.body for message in made if message.kind == "event")
    assert sent[-1].at <= Feed(3, shape, 2).ends


def test_only_the_next_seconds_of_a_load_are_ever_made() -> None:
    made: list[Message] = []
    postings = Feed(3, plan.shape(3600, 50), 2, made.append).postings()
    for _ in range(100):
        next(postings)
    assert len(made) < 1000


def test_what_happened_is_found_again_by_partition(tmp_path: Path) -> None:
    sent = list(Feed(4, plan.shape(10, 50), 2).postings())
    to = Shards(tmp_path, PARTITIONS)
    for posting in sent:
        to.message(posting.message)
        to.post(Post(posting.message.key, posting.at, posting.at + 0.1, 202, posting.ingress))
    to.close()
    found: set[str] = set()
    for number in range(PARTITIONS):
        folder = tmp_path / f"{number:02d}"
        messages = {message.key: message for message in shards.messages(folder)}
        assert messages.keys() == {post.key for post in shards.posts(folder)}
        assert all(
            partition_of(message.team, PARTITIONS) == number for message in messages.values() if message.kind == "event"
        )
        found |= messages.keys()
    assert found == {posting.message.key for posting in sent}


def test_records_are_sorted_by_partition_and_keep_their_process(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    here = partition_of("a", PARTITIONS)
    inbox = f"handoff:{{p{here:02d}}}:inbox"
    lines = [
        ["start", 0, 1.0, "every", "a-e1", "a", 1, 1, False, False, None, None, []],
        ["taken", 0.5, 0.6, 77, [f"{inbox} every a"]],
        ["end", 0, 2.0, "done"],
        ["committed", 2.1, [[f"{inbox} every a", 77, True]]],
        ["start", 1, 3.0, "flaky", "a-e2", "a", 2, 1, False, False, None, None, []],
        ["exit", 3.1],
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines) + '["end", 1, 3.'  # cut by a kill
    (records / "55-1.00.jsonl").write_text(text)
    shards.sort_records(records, tmp_path, PARTITIONS)
    assert not list(records.iterdir())
    for number in range(PARTITIONS):
        folder = tmp_path / f"{number:02d}"
        (folder / "messages.jsonl").write_text("")
        (folder / "posts.jsonl").write_text("")
        found = shards.history(folder, History())
        assert [fault.pids for fault in found.faults] == [(55,)]
        calls = [(call.key, call.outcome, call.pid) for call in found.calls]
        assert calls == ([("a-e1", "done", 55), ("a-e2", "cut", 55)] if number == here else [])
        assert [lease.token for lease in found.taken] == [77] * (number == here)
        assert [commit.accepted for commit in found.committed] == [True] * (number == here)


def test_the_system_tells_what_a_process_takes() -> None:
    import os

    own = system.facts(os.getpid())
    assert own is not None
    assert own.rss > 5 * 1024 * 1024
    assert own == system.facts(os.getpid())._replace(rss=own.rss, files=own.files)  # type: ignore[union-attr]
    assert system.facts(2**22 + 1) is None
