"""Pauses and resumes a handler, and records who did it."""

from __future__ import annotations

from worker.errors import ConfigurationError
from worker.ops import handler_list, tables
from worker.ops.installed import Installed
from worker.ops.people import who
from worker.store import actions
from worker.store.control import ControlStore

_LISTED = 20  # names in an error's line


def change(found: Installed, name: str, *, pause: bool) -> str:
    """What was done, in words. Raises ``ConfigurationError`` for a name that nobody knows, and ``StoreUnavailable``."""
    rows = {row["name"]: row["waiting"] for row in handler_list.rows(found)}
    if name not in rows:
        raise _unknown(name, list(rows))
    prefix = found.settings.prefix
    store = ControlStore(found.client, found.scripts, prefix, name)
    changed = store.pause(who()) if pause else store.resume()
    if changed:
        what = f"handlers {'pause' if pause else 'resume'}"
        actions.record(found.client, prefix, who=who(), what=what, args={"handler": name}, count=1)
    waiting = tables.plural(rows[name], "job waits", "jobs wait")
    if pause:
        paused = store.read().paused
        if not changed and paused is not None:
            return f"{name} is paused already, since {tables.moment(paused.at)} by {paused.by}; {waiting}."
        return f"{name} is paused: no call begins until `handoff handlers resume {name}`; {waiting}."
    return f"{name} is resumed; {waiting}." if changed else f"{name} was not paused."


def _unknown(name: str, known: list[str]) -> ConfigurationError:
    there = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    shown = "".join(letter for letter in name[:64] if letter.isprintable())
    return ConfigurationError(
        f"handler {shown!r}", "is not known here", f"there are {there}" if known else "no worker has announced one yet"
    )
