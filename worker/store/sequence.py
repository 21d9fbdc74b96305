"""The sequencer's side of a partition: take the lease, read a batch and its state, commit a plan, let go.

    acquire ─▶ read ─▶ load ─▶ (plan: worker.core.sequencing) ─▶ commit ─┬▶ read ...
                                                                        └▶ release

What the first ``read`` answers with has come with the lease: on an idle system somebody waits for each round trip.

``commit`` writes a plan in one script that first checks the fencing token. So a process that stopped for a minute
between any two of these steps, and lost its lease, changes nothing; and one that dies leaves the state before or the
state after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from worker.core.archive import index_mark
from worker.core.dispatch import Dispatch, Route, dispatch
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.lateness import Lateness
from worker.core.sequencing import (
    INTERNAL_ERROR,
    Delivery,
    Plan,
    Proof,
    State,
    fingerprint,
    prospects_of,
)
from worker.doorbell import BELL_LIFE_MS
from worker.settings import Settings
from worker.store.batch import Batch
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys
from worker.store.records import (
    arrival_ms,
    decode_held,
    decode_lateness,
    decode_owner,
    decode_team,
    encode_held,
    encode_lateness,
    encode_owner,
    encode_team,
)
from worker.store.scripts import Code, Scripts, Word, owned
from worker.store.tokens import new_token
from worker.store.writes import Writes

FIRST_BATCH: Final = 32  # deliveries that come with a lease

LEASE_MS: Final = 3000
"""A batch takes milliseconds and every commit renews, so a sequencer that dies is replaced within three seconds."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""Bodies of one batch: what a worker has in memory, whatever is sent."""

PAGE: Final = 16  # entries that the server looks at in one go, but no more than PAGE_BYTES of the largest there may be
PAGE_BYTES: Final = 16 * 1024 * 1024

DUE_TEAMS: Final = 200
"""Teams whose wait is over, taken along with one batch; no more than it may have deliveries, for each may hold a
thousand events, and a batch that outlasts the lease is work for nothing, for ever."""


@dataclass(slots=True)
class Lease:
    """A sequencer's hold on its partition. ``cursor`` is the last entry that was read and committed. ``token`` is
    another one after each commit, and so names the state that the next one builds on (lua/commit.lua). ``first`` is
    what came with it, until it is read: up to ``FIRST_BATCH`` deliveries, as the script read them."""

    token: int
    cursor: str
    lateness: Lateness
    first: Any = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: ``bells`` are the handlers whose runner the caller has to ring."""

    bells: list[str]


Push = Callable[[str], tuple[str, bytes]]
"""Of a handler, the key of the list that a bell for its runner is pushed to, on this server, and the message."""


class SequenceStore:
    """One partition's sequencer state. Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: PartitionKeys, settings: Settings) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._memory_ms = int(settings.memory * 1000)
        self._half_window_ms = max(1, int(settings.dedup_window * 500))
        self._archives = settings.archive_events > 0
        self._page = max(1, min(PAGE, PAGE_BYTES // int(settings.max_body)))

    def acquire(self) -> Lease | None:
        """The lease with a new token and the first deliveries, or None when another process has it."""
        keys = self._keys
        token = new_token()
        answer = self._scripts.run(
            "acquire",
            [keys.lease, keys.state, keys.bell, keys.inbox, keys.gaps],
            [LEASE_MS, BELL_LIFE_MS, token, FIRST_BATCH, BATCH_BYTES, self._page, FIRST_BATCH],
        )
        if answer[0] == Code.BUSY:
            return None
        _, cursor, lateness, first = answer
        return Lease(token, cursor.decode(), decode_lateness(lateness), first)

    def read(self, lease: Lease, count: int, most_bytes: int = BATCH_BYTES) -> Batch:
        """Up to ``count`` unread deliveries, of which only the last may go over ``most_bytes`` of bodies, and the teams
        whose gap wait is over. Of ``FIRST_BATCH``, the first time, those that came with the lease."""
        keys = self._keys
        most_due = min(DUE_TEAMS, count)
        answer, lease.first = lease.first, None
        if answer is None or (count, most_bytes) != (FIRST_BATCH, BATCH_BYTES):
            answer = self._scripts.run(
                "read", [keys.inbox, keys.gaps], [lease.cursor, count, most_bytes, self._page, most_due]
            )
        seconds, micros, drained, entries, waiting = answer
        deliveries: list[Delivery | tuple[str, Proof]] = []
        bodies = {}
        for name, fields in entries:
            entry = name.decode()
            body, team, proof, vouched = _fields(fields)
            if proof is not None and team is not None:
                deliveries.append((entry, Proof(team, proof)))
                continue
            bodies[entry] = (body, team)
            arrived = arrival_ms(entry)
            try:
                event = read(body, team)
            except Unreadable as error:
                deliveries.append(Delivery(entry, arrived, error, len(body)))
            except Exception as error:  # noqa: BLE001 - nobody could get past it; the sequencer logs the cause
                fault = Unreadable(INTERNAL_ERROR, "a fault of Handoff's; it is logged")
                fault.__cause__ = error
                deliveries.append(Delivery(entry, arrived, fault, len(body)))
            else:
                mark = fingerprint(event.team, event.id)
                deliveries.append(Delivery(entry, arrived, event, len(body), mark, vouched))
        now = int(seconds) * 1000 + int(micros) // 1000
        clock = now if drained or not deliveries else arrival_ms(deliveries[-1][0])
        due = [team.decode() for team, at in zip(waiting[::2], waiting[1::2], strict=True) if float(at) <= clock]
        return Batch(deliveries, bodies, due, now, bool(drained), more_due=len(due) == most_due)

    def load(self, lease: Lease, batch: Batch) -> State:
        """The state that planning ``batch`` needs: its teams, their held events, the owners of all their prospects."""
        deliveries = [delivery for delivery in batch.deliveries if isinstance(delivery, Delivery)]
        known = [delivery.content for delivery in deliveries if isinstance(delivery.content, Envelope)]
        proven = [delivery[1].team for delivery in batch.deliveries if isinstance(delivery[1], Proof)]
        teams = list(dict.fromkeys([event.team for event in known] + batch.due + proven))
        prospects = list(dict.fromkeys((e.team, e.prospect) for e in known if e.prospect is not None))
        marks = list({delivery.mark for delivery in deliveries if delivery.mark})
        state = State(lateness=lease.lateness)
        if not teams:
            return state
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=False)
            pipe.mget([self._keys.team(team) for team in teams])
            pipe.execute_command("ZMSCORE", self._keys.gaps, *teams)
            windows = self._windows(batch.now) if marks else []
            for window in windows:
                pipe.execute_command("SMISMEMBER", self._keys.seen(window), *marks)
            if prospects:
                pipe.mget([self._keys.owner(*prospect) for prospect in prospects])
            stored, waits, *rest = pipe.execute()
            for team, text in zip(teams, stored, strict=True):
                state.teams[team] = decode_team(text)
            for answers in rest[: len(windows)]:
                state.seen.update(mark for mark, found in zip(marks, answers, strict=True) if found)
            if prospects:
                self._add_owners(state, prospects, rest[-1])
            self._add_held(state, [team for team, wait in zip(teams, waits, strict=True) if wait is not None])
        return state

    def commit(
        self, lease: Lease, batch: Batch, plan: Plan, route: Route, quarantine_max: int, *, push: Push | None = None
    ) -> Committed:
        """Write ``plan``, jobs for the handlers that ``route`` names, and the new cursor; renews the lease.

        With ``push`` their bells are rung in the same script, and those that could not be are left for the caller to
        ring. Raises ``LeaseLost``: then nothing was written, and the lease must not be used again.
        """
        entries = [delivery[0] for delivery in batch.deliveries]
        cursor = entries[-1] if entries else lease.cursor
        dispatched = dispatch(plan.released, route, batch.now if self._archives else None)
        writes = Writes()
        # A script that meets an error (a key of another type) stays done up to there, and is tried again. So what makes
        # a delivery look finished comes last: an error may then double a job, but never lose one.
        bells = self._write_jobs(writes, dispatched, batch.now)
        self._write_held(writes, plan)
        self._write_quarantine(writes, batch, plan, quarantine_max)
        if self._archives:
            self._write_archive(writes, batch, plan, dispatched)
        self._write_memory(writes, plan, batch.now)
        quarantined = [item.entry for item in plan.quarantined]
        writes.add("XDEL", self._keys.inbox, plan.duplicates + plan.proofs + quarantined + dispatched.unwanted)
        self._write_ledger(writes, plan, dispatched, len(entries))
        writes.add("HSET", self._keys.state, ["cursor", cursor, "lateness", encode_lateness(lease.lateness)])

        keys, token = self._keys, new_token()
        pushed = [] if push is None else [push(handler) for handler in bells]
        touched = [
            keys.lease,
            keys.inbox,
            *(keys.runner_bell(handler) for handler in bells),
            *(key for key, _ in pushed),
        ]
        words: list[Word] = [lease.token, LEASE_MS, BELL_LIFE_MS, len(bells), entries[-1] if entries else "", token]
        words += (len(pushed), *(message for _, message in pushed))
        answer = self._scripts.run("commit", [*touched, *writes.keys], words + writes.words(len(touched)))
        owned(answer[0], f"partition {keys.partition}")
        lease.token = token
        lease.cursor = cursor
        told = zip(bells, answer[1:], strict=True)
        return Committed([handler for handler, how in told if how == Code.NOT_PUSHED or (how and not pushed)])

    def release(self, lease: Lease, *, hand_on: bool) -> tuple[Code, int | None]:
        """Let go, unless there is more to read (``MORE``: the lease is still held).

        ``hand_on`` lets go in any case; ``HANDED_ON`` then asks the caller to ring. With ``DONE`` comes the time (ms)
        at which the next gap's wait is over, if one is open. Raises ``LeaseLost``.
        """
        keys = self._keys
        answer = self._scripts.run(
            "release",
            [keys.lease, keys.state, keys.bell, keys.inbox, keys.gaps],
            [lease.token, BELL_LIFE_MS, int(hand_on)],
        )
        code = owned(answer[0], f"partition {keys.partition}")
        deadline = answer[1] if len(answer) > 1 else b""
        return code, int(float(deadline)) if deadline else None

    def _windows(self, now: int) -> list[int]:
        """The windows in which an id may be remembered: the present one, the two that reach back far enough, and the
        next, which an id is in when the server's clock was set back since."""
        window = now // self._half_window_ms
        return [window, window - 1, window - 2, window + 1]

    def _add_owners(self, state: State, prospects: Sequence[tuple[str, str]], stored: Iterable[bytes | None]) -> None:
        for prospect, text in zip(prospects, stored, strict=True):
            if text is not None:
                state.owners[prospect] = decode_owner(text)

    def _add_held(self, state: State, teams: Sequence[str]) -> None:
        if not teams:
            return
        pipe = self._client.pipeline(transaction=False)
        for team in teams:
            pipe.zrange(self._keys.held(team), 0, -1, withscores=True)
        for team, members in zip(teams, pipe.execute(), strict=True):
            state.teams[team].held = decode_held(team, members)
        missing = [prospect for prospect in prospects_of(state.teams) if prospect not in state.owners]
        if missing:
            stored: Any = self._client.mget([self._keys.owner(*prospect) for prospect in missing])
            self._add_owners(state, missing, stored)

    def _write_memory(self, writes: Writes, plan: Plan, now: int) -> None:
        """Ids, watermarks and owners: what later plans start from."""
        keys = self._keys
        if plan.seen:
            seen = keys.seen(self._windows(now)[0])
            writes.add("SADD", seen, plan.seen)
            writes.add("PEXPIRE", seen, [4 * self._half_window_ms])
        for team, state in plan.teams.items():
            writes.add("SET", keys.team(team), [encode_team(state), "PX", self._memory_ms])
        for prospect, owner in plan.owners.items():
            writes.add("SET", keys.owner(*prospect), [encode_owner(owner), "PX", self._memory_ms])

    def _write_jobs(self, writes: Writes, dispatched: Dispatch, now: int) -> list[str]:
        """Jobs to their lanes, which are ready now; the handlers that got any."""
        keys = self._keys
        ready: dict[str, list[Word]] = {}
        for (handler, lane), texts in dispatched.lanes.items():
            writes.add("RPUSH", keys.lane(handler, lane), texts)
            ready.setdefault(handler, []).extend((now, lane))
        for handler, scores in ready.items():
            # NX: a lane that is claimed or backing off keeps its time.
            writes.add("ZADD", keys.ready(handler), scores, always=["NX"])
        writes.add("HSET", keys.refs, [word for pair in dispatched.users.items() for word in pair])
        return list(ready)

    def _write_archive(self, writes: Writes, batch: Batch, plan: Plan, dispatched: Dispatch) -> None:
        """Records of what goes out, and the index by which an event is found from when it is held on."""
        keys = self._keys
        writes.add("RPUSH", keys.archive, dispatched.archive)
        waited = {arrival.entry for arrival in plan.unheld}
        index: list[Word] = []
        for item in plan.released:
            event, entry, *_ = item.arrival
            if entry not in waited:  # the index has it already, with what it waited for
                index += (index_mark(event.id), entry)
        for entry, arrival in plan.held.items():
            watermark = plan.teams[arrival.event.team].watermark
            first = "-" if watermark is None else watermark + 1
            index += (index_mark(arrival.event.id), f"{entry} {first}")
        writes.add("HSET", keys.ids, index)
        if plan.duplicates:
            duplicates = set(plan.duplicates)
            again = [
                f"{index_mark(delivery.content.id)} {delivery.entry}"
                for delivery in batch.deliveries
                if isinstance(delivery, Delivery)
                and delivery.entry in duplicates
                and isinstance(delivery.content, Envelope)
            ]
            writes.add("RPUSH", keys.again, again)

    def _write_quarantine(self, writes: Writes, batch: Batch, plan: Plan, most: int) -> None:
        for item in plan.quarantined:
            body, team = batch.bodies[item.entry]
            words: list[Word] = ["MAXLEN", "~", most, "*", "b", body, "entry", item.entry]
            words += ["reason", item.reason, "detail", item.detail]
            writes.add("XADD", self._keys.quarantine, words + ([] if team is None else ["t", team]))

    def _write_ledger(self, writes: Writes, plan: Plan, dispatched: Dispatch, read: int) -> None:
        counts = plan.counts + dispatched.counts
        counts["read"] = read
        for name in ("duplicates", "quarantined", "proofs", "released"):
            counts[name] = len(getattr(plan, name))
        for name, count in counts.items():
            if count:
                writes.add("HINCRBY", self._keys.ledger, [name, count])

    def _write_held(self, writes: Writes, plan: Plan) -> None:
        keys = self._keys
        gone: dict[str, list[Word]] = {}
        come: dict[str, list[Word]] = {}
        for arrival in plan.unheld:
            gone.setdefault(arrival.event.team, []).append(encode_held(arrival))
        for arrival in plan.held.values():
            come.setdefault(arrival.event.team, []).extend((arrival.event.seq, encode_held(arrival)))
        # First what comes: a set that were emptied in between is a missing key to a node whose slot is on the move.
        for team, members in come.items():
            writes.add("ZADD", keys.held(team), members)
        for team, texts in gone.items():
            writes.add("ZREM", keys.held(team), texts)
        deadlines: list[Word] = []
        for team, deadline in plan.deadlines.items():
            if deadline is not None:
                deadlines += (deadline, team)
        writes.add("ZADD", keys.gaps, deadlines)
        writes.add("ZREM", keys.gaps, [team for team, deadline in plan.deadlines.items() if deadline is None])


def _fields(flat: list[bytes]) -> tuple[bytes, str | None, int | None, bool]:
    """An inbox entry's body, team from the URL, proven seq, and whether a person vouches for it, of the fields it has
    (store/keys.py)."""
    if len(flat) == 2 and flat[0] == b"b":
        return flat[1], None, None, False
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    team, proof = fields.get(b"t"), fields.get(b"proof")
    return (
        fields.get(b"b", b""),
        None if team is None else team.decode(errors="replace"),
        None if proof is None else int(proof),
        b"vouched" in fields,
    )
