"""How much waits and how full the server is, measured in two round trips whose cost is bounded.

Deliveries are counted: an entry of the inbox waits from when it is accepted until its last job has ended, but for those
that only the archive and dead letters keep (``kept`` and ``kept_bytes`` of the ledger). Their bytes are the server's
own figure for the stream (MEMORY USAGE), which adds up its nodes without reading a body: exact, whatever the sizes, and
0.1 microseconds a node (50 ms for a million bodies of 1.6 KB, 9 ms for as many of 200 bytes; Valkey 9.1). So one look
reads at most ``NODES`` of them: partitions take turns when there are more, and meanwhile one's entries are taken to be
as large as when last measured. Of a single partition with more nodes than that, the oldest so many stand for all.

In a cluster what waits is added up over its nodes, and the memory is that of the fullest: it is the first to refuse. A
node that does not answer counts for nothing, for the others take in what is theirs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

import redis.exceptions

from worker.store.cluster import AWAY, servers
from worker.store.keys import PartitionKeys

NODES: Final = 65_536
SLICE: Final = 256  # commands sent at once, so that thousands of partitions hold nobody up

MEMORY: Final = ("INFO", "memory")  # of the fullest server

Command = tuple[str | int, ...]
Steps = Generator[Sequence[Command], list[Any], "Measured"]


class Measured(NamedTuple):
    """``events`` and ``size`` (bytes) of what waits; ``memory`` (bytes) counts against ``max_memory`` (0: no bound).

    ``refused`` names the commands that the server's user may not use; their figures are 0.
    """

    events: int
    size: int
    memory: int
    max_memory: int
    refused: frozenset[str] = frozenset()


class Scale:
    """Measures one installation again and again. ``nodes`` is how many of the streams' nodes a look may read."""

    def __init__(self, partitions: Sequence[PartitionKeys], nodes: int = NODES) -> None:
        self._partitions = partitions
        self._nodes = nodes
        self._turn = 0
        self._averages: list[float | None] = [None] * len(partitions)  # bytes of the stream for each entry

    def steps(self) -> Steps:
        """Yields commands, never more than ``SLICE`` at once, is sent their answers, and returns a ``Measured``.

        Answers may be errors of redis-py's; all but refusals of the user's are raised. None is of a node that is away.
        """
        lengths: list[int] = []
        kept: list[tuple[int, int]] = []
        for start in range(0, len(self._partitions), SLICE // 2):
            some = self._partitions[start : start + SLICE // 2]
            answers = yield [
                command
                for keys in some
                for command in (("XLEN", keys.inbox), ("HMGET", keys.ledger, "kept", "kept_bytes"))
            ]
            _raise_other(answers)
            lengths += [length or 0 for length in answers[::2]]
            kept += [(int(events or 0), int(size or 0)) for events, size in (pair or (0, 0) for pair in answers[1::2])]

        refused = set()
        chosen = self._choose(lengths)
        for start in range(0, len(chosen), SLICE):
            turn = chosen[start : start + SLICE]
            inboxes = [self._partitions[at].inbox for at in turn]
            answers = yield [("MEMORY", "USAGE", inbox, "SAMPLES", self._nodes) for inbox in inboxes]
            if _raise_other(answers):
                refused.add("MEMORY USAGE")
                self._averages = [0.0] * len(self._partitions)
                break
            for at, usage in zip(turn, answers, strict=True):
                self._averages[at] = (usage or 0) / lengths[at]

        answers = yield [MEMORY]
        if _raise_other(answers):
            refused.add("INFO")
        memory, most = _memory(answers[0])
        return Measured(
            events=sum(max(0, length - events) for length, (events, _) in zip(lengths, kept, strict=True)),
            size=self._size(lengths, kept),
            memory=memory,
            max_memory=most,
            refused=frozenset(refused),
        )

    def _choose(self, lengths: Sequence[int]) -> list[int]:
        """The partitions whose turn it is: as many as may be measured, and always one. A node has an entry or more."""
        chosen: list[int] = []
        left = self._nodes
        for step in range(len(lengths)):
            at = (self._turn + step) % len(lengths)
            left -= min(lengths[at], self._nodes)
            if left < 0 and chosen:
                self._turn = at
                break
            if lengths[at]:
                chosen.append(at)
        return chosen

    def _size(self, lengths: Sequence[int], kept: Sequence[tuple[int, int]]) -> int:
        known = [average for average in self._averages if average is not None]
        usual = sum(known) / len(known) if known else 0.0
        return sum(
            max(0, round(length * (usual if average is None else average)) - size)
            for length, average, (_, size) in zip(lengths, self._averages, kept, strict=True)
        )


def measure(client: redis.Redis, scale: Scale) -> Measured:
    """The measurement. Raises as redis-py does, in a cluster only if no node answers."""
    steps = scale.steps()
    commands = next(steps)
    while True:
        answers = _fullest(client) if commands == [MEMORY] else _ask(client, commands)
        try:
            commands = steps.send(answers)
        except StopIteration as end:
            measured: Measured = end.value
            return measured


def _ask(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return present(pipe.execute(raise_on_error=False))


def _fullest(client: redis.Redis) -> list[Any]:
    answers = []
    for server in servers(client):
        try:
            answers += _ask(server, [MEMORY])
        except (redis.exceptions.RedisError, OSError) as error:
            answers.append(error)
    return [max(present(answers), key=_fullness)]


def present(answers: list[Any]) -> list[Any]:
    """The answers, with None for those of nodes that are away. Raises what these say if no other node has answered."""
    away = [answer for answer in answers if isinstance(answer, AWAY)]
    if away and len(away) == len(answers):
        raise away[0]
    return [None if isinstance(answer, AWAY) else answer for answer in answers]


def _fullness(info: Any) -> tuple[float, int]:
    used, most = _memory(info)
    return (used / most if most else 0.0), used


def _raise_other(answers: Sequence[Any]) -> bool:
    """Whether the user may not use the command; every other error is raised."""
    refused = False
    for answer in answers:
        if isinstance(answer, redis.exceptions.NoPermissionError):
            refused = True
        elif isinstance(answer, Exception):
            raise answer
    return refused


def _memory(info: Any) -> tuple[int, int]:
    """What of the memory counts against ``maxmemory``, and that; as the server works it out itself."""
    if not isinstance(info, dict):
        return 0, 0
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    return max(0, used), int(info.get("maxmemory", 0))
