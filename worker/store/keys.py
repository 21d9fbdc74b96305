"""Every key that Handoff keeps, in one place.

All keys of a partition share the hash tag ``{pNN}``, so one script can touch all of them on Redis Cluster too. The tag
is the first pair of braces in a key; what a team or prospect id holds after it can't move the key to another slot.

====================== ====== ============================================================ ==========================
key                    type   meaning                                                      life time
====================== ====== ============================================================ ==========================
P:config               hash   partitions, created: fixed at the first start                for ever
P:handlers             hash   handler name -> its definition as JSON, written by workers   for ever
P:replays              hash   replay -> what was asked for, as JSON (store/replay.py)      until it is finished
P:actions              stream what people did: who, what, args, count; the newest 10,000   for ever
P:rate:{H}             list   calls of handler H granted lately (lua/grants.lua)           the rate's own time
P:turns:{H}            hash   partition -> whose turn it is at handler H's scarce calls    the rate's own time
P:control:{H}          hash   of handler H: circuit (JSON, core/breaker.py) and its        for ever
                              version; paused (JSON at, by) while a person paused it
P:sweeper              string token of the worker that sweeps                              seconds
P:{workers}:beats      hash   run of a worker -> how it is getting on, as JSON             seconds, of silence
                              (store/heartbeats.py)
P:{workers}:last       zset   run of a worker -> its last beat, ms                         seconds, of silence
P:{pNN}:inbox          stream accepted deliveries: b body, t team given by the URL         until duplicate, quarantined
                              (optional), vouched 1 by a person (quarantine retry          or nobody needs it
                              --force). Appended by the ingress; an entry stays where
                              it is while it waits, is held, has jobs or dead letters,
                              or is in the archive: a body is stored once.
P:{pNN}:state          hash   cursor (last entry read), lateness                           for ever
P:{pNN}:lease          string the sequencer's fencing token                                seconds
P:{pNN}:bell           string a doorbell to the sequencer is out, or it is at work         seconds
P:{pNN}:bell:H         string a doorbell to the runner of handler H is out                 seconds
P:{pNN}:seen:N         set    16-byte digests of the (team, event id) seen in window N     dedup window, twice
P:{pNN}:team:T         string JSON [watermark, skipped gaps]                               HANDOFF_MEMORY
P:{pNN}:owner:T:X      string JSON [seq, timestamp, id, assignee] of prospect X            HANDOFF_MEMORY
P:{pNN}:held:T         zset   seq -> facts of a held event                                 until released
P:{pNN}:gaps           zset   team with held events -> when its wait is over, ms           until released
P:{pNN}:ready:H        zset   lane -> when it is next due, ms; a claimed lane has the end  until empty
                              of its lease here, a blocked one +inf, and one that is due
                              may have its place in turn, below 10^12 (lua/claim.lua)
P:{pNN}:turns:H        zset   team -> the turn that its next lane gets; :turn, :at         while lanes wait in turn
P:{pNN}:rate:H:T       list   calls of handler H granted to team T lately, like rate:{H}   the rate's own time
P:{pNN}:parked:H       zset   team with no call left -> when its last parked lane is due   the rate's own time
P:{pNN}:lane:H:L       list   jobs of lane L of handler H, oldest first                    until empty
P:{pNN}:claims:H       hash   lane -> "token attempts count careful writes"                until let go
                              (lua/claim.lua)
P:{pNN}:trouble:H      hash   lane -> JSON list of the failed attempts of its first job    until that job ends
P:{pNN}:blocked:H      hash   lane -> JSON {why, at, by, error}: a person has to let it on until let on
P:{pNN}:missed:H       set    "team:prospect" whose change became a dead letter, of a      90 days, or until told
                              conflating handler: nothing of them may cancel out
P:{pNN}:refs           hash   entry id -> its users (lua/users.lua), where over one        until one is left
P:{pNN}:archive        list   records of released events, oldest first (core/archive.py)   HANDOFF_ARCHIVE_*
P:{pNN}:ids            hash   mark of an event id -> "entry", for one that was held        with the record
                              "entry first": the first missing number below it
P:{pNN}:ends           hash   "entry handler" -> "done|discarded|... ms attempts"          with the record
P:{pNN}:replays        hash   replay -> position it has come to (store/replay.py)           until it is finished
P:{pNN}:again          list   "mark entry" of duplicates dropped lately                    as many as records
P:{pNN}:ledger         hash   counters (store/ledger.py)                                   for ever
P:{pNN}:quarantine     stream b body, t team, reason, inbox entry id                       HANDOFF_QUARANTINE_MAX
P:{pNN}:dead           stream given-up jobs with error and attempts; the body stays in the until a person acts
                              inbox
====================== ====== ============================================================ ==========================

P is ``HANDOFF_PREFIX``, NN the partition, T a team, H a handler, L a lane (core/lanes.py), X a prospect's key. Times
are milliseconds of the server's clock.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

from worker.core.lanes import escaped


def partition_of(team: str, partitions: int) -> int:
    """The partition of a team: ``crc32(team id) mod P``, the same for ever and in every process."""
    return zlib.crc32(team.encode("utf-8", "surrogatepass")) % partitions


def config(prefix: str) -> str:
    return f"{prefix}:config"


def handlers(prefix: str) -> str:
    return f"{prefix}:handlers"


def replays(prefix: str) -> str:
    return f"{prefix}:replays"


def sweeper(prefix: str) -> str:
    return f"{prefix}:sweeper"


def beats(prefix: str) -> str:
    """Tagged, for one script writes it and the next."""
    return f"{prefix}:{{workers}}:beats"


def last_beats(prefix: str) -> str:
    return f"{prefix}:{{workers}}:last"


def rate(prefix: str, handler: str) -> str:
    """Not a partition's: a rate holds over all of them."""
    return f"{prefix}:rate:{{{handler}}}"


def control(prefix: str, handler: str) -> str:
    """Not a partition's either: it is the handler's in all of them."""
    return f"{prefix}:control:{{{handler}}}"


def actions(prefix: str) -> str:
    return f"{prefix}:actions"


def rate_turns(prefix: str, handler: str) -> str:
    return f"{prefix}:turns:{{{handler}}}"


_FIXED: Final = (
    *("inbox", "state", "lease", "bell", "gaps", "refs", "ledger", "quarantine", "dead"),
    *("archive", "ids", "ends", "again", "replays"),
)


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition. The fixed ones are made once; the others are methods."""

    prefix: str
    partition: int
    base: str = field(init=False)
    inbox: str = field(init=False)
    state: str = field(init=False)
    lease: str = field(init=False)
    bell: str = field(init=False)
    gaps: str = field(init=False)
    refs: str = field(init=False)
    ledger: str = field(init=False)
    quarantine: str = field(init=False)
    dead: str = field(init=False)
    archive: str = field(init=False)
    ids: str = field(init=False)
    ends: str = field(init=False)
    again: str = field(init=False)
    replays: str = field(init=False)

    def __post_init__(self) -> None:
        base = f"{self.prefix}:{{p{self.partition:02d}}}"
        object.__setattr__(self, "base", base)
        for name in _FIXED:
            object.__setattr__(self, name, f"{base}:{name}")

    def runner_bell(self, handler: str) -> str:
        return f"{self.base}:bell:{handler}"

    def seen(self, window: int) -> str:
        return f"{self.base}:seen:{window}"

    def team(self, team: str) -> str:
        return f"{self.base}:team:{team}"

    def owner(self, team: str, prospect: str) -> str:
        # Or team "a" with prospect "b:c" and team "a:b" with prospect "c" would have one owner between them.
        return f"{self.base}:owner:{escaped(team)}:{prospect}"

    def held(self, team: str) -> str:
        return f"{self.base}:held:{team}"

    def ready(self, handler: str) -> str:
        return f"{self.base}:ready:{handler}"

    def lane(self, handler: str, lane: str) -> str:
        return f"{self.base}:lane:{handler}:{lane}"

    def claims(self, handler: str) -> str:
        return f"{self.base}:claims:{handler}"

    def trouble(self, handler: str) -> str:
        return f"{self.base}:trouble:{handler}"

    def missed(self, handler: str) -> str:
        return f"{self.base}:missed:{handler}"

    def blocked(self, handler: str) -> str:
        return f"{self.base}:blocked:{handler}"

    def turns(self, handler: str) -> str:
        return f"{self.base}:turns:{handler}"

    def team_rate(self, handler: str, team: str) -> str:
        """``team`` as it stands in lanes' names (core/lanes.py)."""
        return f"{self.base}:rate:{handler}:{team}"

    def parked(self, handler: str) -> str:
        return f"{self.base}:parked:{handler}"
