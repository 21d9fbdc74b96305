"""Do the processes agree with each other: on the broker, on partitions, on handlers and queues?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from worker.ops import tables
from worker.ops.doctor.facts import Facts, Installed
from worker.ops.doctor.findings import Finding, Level

MANY_BELLS: Final = 1000
"""In one queue. A bell is rung again every two seconds at most, so a queue that is read never has so many."""


def broker(facts: Facts) -> Iterable[Finding]:
    found = facts.broker
    if found is None:
        return
    if found.error:
        why = "no doorbell is heard; where it is another server than the state's, workers get nothing to do at all"
        remedy = "check HANDOFF_BROKER_URL (or HANDOFF_REDIS_URL, where it is not set), its user and its password"
        yield Finding(Level.UNSAFE, "broker", f"can't be reached: {found.error}", why, remedy, found.address)
    elif facts.settings.broker.startswith("memory"):
        why = "it is inside of each process, so no bell that an ingress rings is heard by a worker"
        yield Finding(Level.UNSAFE, "broker", "is memory://", why, "name a server in HANDOFF_BROKER_URL", found.address)
    else:
        yield Finding(Level.OK, "broker", "answers", where=found.address)


def partitions(facts: Facts) -> Iterable[Finding]:
    installed, wanted = facts.installed, facts.settings.partitions
    if installed is None or installed.error:
        return
    stored = installed.partitions
    if stored is None:
        what = f"nothing has started under the prefix {facts.settings.prefix!r} yet"
        yield Finding(Level.OK, "partitions", what)
    elif wanted is not None and wanted != stored:
        yield Finding(
            Level.UNSAFE,
            "partitions",
            f"HANDOFF_PARTITIONS is {wanted}, and this installation has {stored}",
            "no process starts with it, for teams can't move between partitions",
            f"HANDOFF_PARTITIONS={stored}, or leave it out",
        )
    else:
        yield Finding(Level.OK, "partitions", f"there are {stored}, as everybody says")


def workers(facts: Facts) -> Iterable[Finding]:
    """Does one sweep, and does each get work done?"""
    installed = facts.installed
    if installed is None:
        return
    if installed.error:
        why, remedy = "partitions, handlers and workers have not been compared", "see deploy/users.acl for the rights"
        yield Finding(Level.UNKNOWN, "installation", installed.error, why, remedy)
    elif installed.sweeping:
        yield Finding(Level.OK, "workers", "one of them sweeps")
    elif installed.partitions is not None:
        why = "what is accepted waits until there is one"
        yield Finding(Level.WARN, "workers", "none runs: nobody sweeps", why, "start a worker")
    for worker in installed.workers:
        if worker.trouble:
            level = Level.WARN if worker.silent else Level.UNSAFE
            why = (
                "it was killed, hangs, or can't reach the server"
                if worker.silent
                else "it does no work, and should leave"
            )
            yield Finding(
                level, "workers", f"has been {worker.trouble}", why, "start it again, if nobody does", worker.name
            )


def handlers(facts: Facts) -> Iterable[Finding]:
    """Handlers that are not the same everywhere: those that workers announced beside those of this machine."""
    installed, defined = facts.installed, facts.defined
    if installed is None or installed.error or installed.partitions is None:
        return
    findings = list(_between(installed))
    if defined is not None and installed.announced:
        # Workers that beat are compared with each other; then this machine may be one that runs none.
        level = Level.WARN if installed.beating or not installed.sweeping else Level.UNSAFE
        for name in sorted(set(installed.announced) | set(defined)):
            here, there = defined.get(name), installed.announced.get(name)
            if here is None:
                findings.append(_missing(name, installed.waiting.get(name, 0)))
            elif there is None:
                findings.append(_new(name, level))
            elif options := _differing(here, there):
                findings.append(_other(name, options, level))
    yield from findings
    if not findings and defined is not None:
        yield Finding(Level.OK, "handlers", f"{tables.plural(len(defined), 'handler')}, the same as the workers'")


def _between(installed: Installed) -> Iterable[Finding]:
    """Workers that beat, compared with each other."""
    for name in sorted({name for worker in installed.beating for name in worker.handlers}):
        kinds: dict[str | None, list[str]] = {}
        for worker in installed.beating:
            kinds.setdefault(worker.handlers.get(name), []).append(worker.name)
        if len(kinds) > 1:
            without = sorted(kinds.get(None, []))
            sides = " | ".join(", ".join(sorted(set(names))) for kind, names in kinds.items() if kind is not None)
            what = f"{name} is defined differently by the workers {sides}" if len(kinds) > 1 + bool(without) else ""
            what = what or f"{name} is not known to the workers {', '.join(without)}"
            why = "which of them handles a change decides how; to those that do not know it, no job is given"
            remedy = "the same code and HANDOFF_HANDLERS on all workers; in the middle of an upgrade, finish it"
            yield Finding(Level.UNSAFE, "handlers", what, why, remedy)


def _missing(name: str, waiting: int) -> Finding:
    jobs = f", and {tables.plural(waiting, 'job')} wait for it" if waiting else ""
    return Finding(
        Level.UNSAFE if waiting else Level.WARN,
        "handlers",
        f"{name} was announced by a worker and is not defined here{jobs}",
        "a worker with the settings of this machine routes nothing to it and runs none of its jobs",
        "name its module in HANDOFF_HANDLERS; or, if it was taken out, see its jobs with `handoff status`",
    )


def _new(name: str, level: Level) -> Finding:
    why = "workers with other code or another HANDOFF_HANDLERS route nothing to it"
    remedy = "start all workers again with the same code and HANDOFF_HANDLERS"
    return Finding(level, "handlers", f"{name} is defined here and was announced by no worker", why, remedy)


def _other(name: str, options: list[str], level: Level) -> Finding:
    return Finding(
        level,
        "handlers",
        f"{name} is defined here with another {', '.join(options)} than by the worker that started last",
        "which worker handles a change decides how",
        "the same code and HANDOFF_HANDLER_* on all machines, then start all workers again",
    )


def _differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The options in which two descriptions differ; of those that both have, for one may be of another version."""
    return sorted(name for name in here.keys() & there.keys() if here[name] != there[name])


def queues(facts: Facts) -> Iterable[Finding]:
    """Queues whose bells nobody takes."""
    installed = facts.installed
    if installed is None or installed.error:
        return
    read = {queue for worker in installed.beating for queue in worker.queues}
    wanted = {str(handler.get("queue")) for handler in installed.announced.values() if "queue" in handler}
    unread = wanted - read if installed.beating else set()
    for queue, bells in (installed.bells or {}).items():
        if bells >= MANY_BELLS:
            unread.add(queue)
    for queue in sorted(unread):
        waiting = (installed.bells or {}).get(queue, 0)
        what = f"no worker reads the queue {queue}" + (f": {waiting:,} doorbells wait in it" if waiting else "")
        yield Finding(
            Level.UNSAFE,
            "queues",
            what,
            "the jobs of its handlers wait",
            f"start a worker with -Q {queue}, or without -Q",
        )
