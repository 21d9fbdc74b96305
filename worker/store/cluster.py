"""A client for a cluster that looks like one for a server: each command goes to the node that has its keys.

redis-py has a client for clusters too. It can't be used here: of a pipeline it sends again every command whose outcome
is not known, so that a delivery may be stored twice and an answer of seconds take a minute; it connects when it is
made; and it takes neither our way of packing commands nor of reading entries. What is left of the work is little, for
all keys of a command of ours have one hash tag: find the node, follow MOVED and ASK.

A command that was answered with MOVED or ASK was not executed, so it is sent again, where that says. A connection that
fails is told to the caller, as with one server; the next command asks for the layout first. One node that is away
fails the commands for its keys, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from redis.client import Pipeline

from worker.address import Host
from worker.store.layout import Layout, slot_of

HOPS: Final = 5  # that a command is passed on, at most
AWAY: Final = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ClusterDownError,
    OSError,
)
"""What one node's keys are answered with while it is gone, or the cluster does not know yet who has them."""

Command = tuple[Sequence[Any], dict[str, Any]]


class ClusterClient(redis.Redis):
    """``make`` makes the client of one node, lazily connected and without retries. For any threads."""

    def __init__(self, layout: Layout, make: Callable[[Host], redis.Redis]) -> None:
        self._make = make
        self._nodes: dict[Host, redis.Redis] = {}
        self.layout = layout
        super().__init__(connection_pool=self.node(layout.seeds[0]).connection_pool)  # for what all nodes have alike

    def node(self, host: Host) -> redis.Redis:
        """The client of one node."""
        found = self._nodes.get(host)
        return found if found is not None else self._nodes.setdefault(host, self._make(host))

    def nodes(self) -> list[redis.Redis]:
        """The clients of all nodes that have slots. Raises as redis-py does when nobody says which those are."""
        return [self.node(host) for host in self.layout.primaries()]

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        slot = slot_of(args)
        if slot is None:
            return self._anywhere(lambda node: node.execute_command(*args, **options))
        return self.follow(slot, lambda node: node.execute_command(*args, **options), (args, options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Commands to any nodes, or with ``transaction`` to that of their keys, which have one slot."""
        return ClusterPipeline(self, transaction, shard_hint)

    def follow(self, slot: int, send: Callable[[redis.Redis], Any], asked: Command | None) -> Any:
        """``send`` to the node that has the slot, wherever that is by now. ``asked`` is the command, if it is one: then
        it can be sent to a node that is about to take over the slot."""
        for _ in range(HOPS):
            host = self.layout.host_of(slot)
            try:
                return self.send(host, send)
            except redis.exceptions.MovedError as error:
                self.layout.moved(slot, Host(error.host or host.name, error.port))
            except redis.exceptions.AskError as error:
                if asked is None:
                    raise
                return self.ask(Host(error.host or host.name, error.port), asked)
        raise redis.exceptions.ConnectionError("the nodes of the cluster disagree about who has that part of the keys")

    def send(self, host: Host, send: Callable[[redis.Redis], Any]) -> Any:
        """``send`` to a node; what its failure says of the layout is noted."""
        try:
            return send(self.node(host))
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
            self.layout.doubt(host)
            raise
        except redis.exceptions.ClusterDownError:
            self.layout.doubt()
            raise

    def ask(self, host: Host, command: Command) -> Any:
        """Send to a node that is taking over the slot, which refuses all commands for it but those that say so."""
        pipe = self.node(host).pipeline(transaction=False)
        pipe.execute_command("ASKING")
        pipe.execute_command(*command[0], **command[1])
        answer = self.send(host, lambda _: pipe.execute(raise_on_error=False))[1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _anywhere(self, send: Callable[[redis.Redis], Any]) -> Any:
        error: Exception = redis.exceptions.ConnectionError("no node of the cluster is known")
        for host in self.layout.primaries():
            try:
                return self.send(host, send)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as failed:
                error = failed
        raise error


class ClusterPipeline(Pipeline):
    """Collects commands as redis-py's does. Each node gets its own together; what a node that is away would have
    answered is the error, in the place of each of its commands."""

    def __init__(self, cluster: ClusterClient, transaction: bool, shard_hint: Any) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, shard_hint)
        self._cluster = cluster
        self._whole = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands: list[Command] = list(self.command_stack)
        self.reset()
        if not commands:
            return []
        if self._whole:
            return self._at_once(commands, raise_on_error)
        answers: dict[int, Any] = {}
        left = dict(enumerate(commands))
        for _ in range(HOPS):
            answers |= self._round(left)
            left = {at: commands[at] for at, answer in answers.items() if self._passed_on(answer)}
            if not left:
                break
        result = [answers[at] for at in range(len(commands))]
        errors = [answer for answer in result if isinstance(answer, Exception)]
        if raise_on_error and errors:
            raise errors[0]
        return result

    def _round(self, commands: dict[int, Command]) -> dict[int, Any]:
        """Send all once; the answers by place."""
        answers: dict[int, Any] = {}
        shares: dict[Host, list[int]] = {}
        for at, (words, options) in commands.items():
            slot = slot_of(words)
            try:
                if slot is None:
                    answers[at] = self._cluster.execute_command(*words, **options)
                else:
                    shares.setdefault(self._cluster.layout.host_of(slot), []).append(at)
            except (redis.exceptions.RedisError, OSError) as error:
                answers[at] = error
        for host, places in shares.items():
            answers |= zip(places, self._share(host, [commands[at] for at in places]), strict=True)
        return answers

    def _share(self, host: Host, commands: Sequence[Command]) -> list[Any]:
        """One node's answers, errors in their places."""
        pipe = self._cluster.node(host).pipeline(transaction=False)
        for words, options in commands:
            pipe.execute_command(*words, **options)
        try:
            found: list[Any] = self._cluster.send(host, lambda _: pipe.execute(raise_on_error=False))
        except (redis.exceptions.RedisError, OSError) as error:
            return [error] * len(commands)
        answers = []
        for command, answer in zip(commands, found, strict=True):
            if isinstance(answer, redis.exceptions.MovedError):
                self._cluster.layout.moved(answer.slot_id, Host(answer.host or host.name, answer.port))
            elif isinstance(answer, redis.exceptions.AskError):
                try:
                    answers.append(self._cluster.ask(Host(answer.host or host.name, answer.port), command))
                except (redis.exceptions.RedisError, OSError) as error:
                    answers.append(error)
                continue
            elif isinstance(answer, redis.exceptions.ClusterDownError):
                self._cluster.layout.doubt()
            answers.append(answer)
        return answers

    def _passed_on(self, answer: Any) -> bool:
        """Whether a command has to be sent again, to another node: it was not executed."""
        return isinstance(answer, redis.exceptions.MovedError)

    def _at_once(self, commands: Sequence[Command], raise_on_error: bool) -> list[Any]:
        slots = {slot for words, _ in commands if (slot := slot_of(words)) is not None}
        if len(slots) != 1:
            raise redis.exceptions.RedisError("a transaction is about the keys of one slot")

        def send(node: redis.Redis) -> Any:
            pipe = node.pipeline(transaction=True)
            for words, options in commands:
                pipe.execute_command(*words, **options)
            return pipe.execute(raise_on_error)

        found: list[Any] = self._cluster.follow(slots.pop(), send, None)
        return found


def host_of(client: redis.Redis, key: str) -> Host | None:
    """The node of a cluster that was last known to have a key; None of one server."""
    return client.layout.known(slot_of(("GET", key)) or 0) if isinstance(client, ClusterClient) else None


def servers(client: redis.Redis) -> list[redis.Redis]:
    """Every server that holds a part of the state: one, but for a cluster. Raises as redis-py does."""
    return client.nodes() if isinstance(client, ClusterClient) else [client]
