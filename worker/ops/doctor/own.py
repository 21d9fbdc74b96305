"""What this machine brings: its settings, those that can't be used among them, and its handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from worker.errors import ConfigurationError
from worker.ops.command_settings import command_settings
from worker.ops.doctor.facts import Described
from worker.ops.settings_table import variable
from worker.ops.strays import strays
from worker.runtime.registry import load_handlers
from worker.settings import Settings, variables

_RELATED: Final = ("gap_wait", "gap_wait_min", "gap_wait_max", "dedup_window", "memory")


def read() -> tuple[Settings, Sequence[ConfigurationError]]:
    """The settings, and those that can't be used, in whose place stand the defaults.

    Raises ``ConfigurationError`` where none can be read.
    """
    try:
        return command_settings(), ()
    except ConfigurationError:
        return _with_defaults()


def _with_defaults() -> tuple[Settings, Sequence[ConfigurationError]]:
    fields = {variable(name, field): name for name, field in Settings.model_fields.items()}
    instead: dict[str, Any] = {}
    wrong: list[ConfigurationError] = []
    while True:
        try:
            return Settings(**instead), wrong
        except ValidationError as errors:
            found = [_as_ours(error) for error in errors.errors()]
        except ConfigurationError as error:
            found = [error]
        for each in found:
            name = fields.get(each.setting)
            if name is None or set(_RELATED) <= instead.keys() >= {name}:
                raise each
            wrong += [each] if name not in instead else []
            # What is wrong of two settings together may be wrong still with the default of one of them.
            instead |= {field: _default(field) for field in ((name,) if name not in instead else _RELATED)}


def _default(field: str) -> Any:
    """As it may be given: the default of ``gap_wait`` is never read, and would not be understood."""
    if field == "gap_wait":
        return "auto"
    return Settings.model_fields[field].get_default(call_default_factory=True, validated_data={})


def _as_ours(error: Mapping[str, Any]) -> ConfigurationError:
    place = str(error["loc"][0])
    name = place if place.isupper() else variable(place, Settings.model_fields[place])
    return ConfigurationError(name, str(error["msg"]).removeprefix("Value error, "))


def handlers(settings: Settings) -> tuple[Described | None, Sequence[str], ConfigurationError | None]:
    """The handlers that a worker here would have, the variables that have no effect, and why there are none."""
    try:
        defined = {name: spec.describe() for name, spec in load_handlers(settings).items()}
    except ConfigurationError as error:
        return None, (), error
    return defined, list(strays(variables())), None
