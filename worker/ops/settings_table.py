"""The table of all settings, made from the fields of ``Settings``: name, meaning, default."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any, Final, NamedTuple, get_args

from pydantic import AliasChoices, ByteSize
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from worker.errors import ConfigurationError
from worker.handlers import LOG, SHIPPED
from worker.settings import DEFAULT_PARTITIONS, Duration, Settings

_SHARED: Final = {"members": "worker.member_settings"}
_DURATION_VALIDATOR: Final = get_args(Duration)[1]
_NONE: Final = "none"
_REQUIRED: Final = "required"
# What these mean when they are not set is not what their Python default looks like.
_UNSET: Final = {
    "gap_wait": "auto",
    "broker_url": "HANDOFF_REDIS_URL",
    "handlers": LOG,
    "partitions": str(DEFAULT_PARTITIONS),
}
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


class Row(NamedTuple):
    """One setting: the environment variable, its description with its code marks, its default as one writes it."""

    name: str
    meaning: str
    default: str


def rows(model: type[BaseSettings] = Settings) -> list[Row]:
    """All settings of ``model``, in the order of their definition."""
    prefix = str(model.model_config.get("env_prefix", ""))
    return [
        Row(variable(name, field, prefix), field.description or "", _default(name, field))
        for name, field in model.model_fields.items()
    ]


def shipped_names() -> list[str]:
    """What ``shipped_rows`` knows: each handler that comes with Handoff and has settings, and what they share."""
    return sorted([*(module.rpartition(".")[2] for module in SHIPPED), *_SHARED])


def shipped_rows(name: str) -> list[Row]:
    """The settings of a handler that comes with Handoff, or ones that several share (``members``). Raises
    ``ConfigurationError`` for any other name."""
    module = _SHARED.get(name, f"worker.handlers.{name}")
    if module in SHIPPED:
        # A handler's module wants its settings when it is imported; for a look at them an example will do.
        os.environ.update(SHIPPED[module].example)
    elif module == LOG:
        return []
    elif name not in _SHARED:
        names = ", ".join(shipped_names())
        raise ConfigurationError("handoff settings", f"no handler {name!r} comes with Handoff", f"there is: {names}")
    options: type[BaseSettings] = importlib.import_module(module).Options
    return rows(options)


def variable(name: str, field: FieldInfo, prefix: str = "HANDOFF_") -> str:
    """The environment variable of a field; the first one where it has several."""
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{prefix}{name.upper()}"


def as_json(table: list[Row]) -> str:
    return json.dumps([row._asdict() for row in table], indent=2, ensure_ascii=False)


def as_markdown(table: list[Row]) -> str:
    """A Markdown table. Bars within a cell are escaped; the meaning keeps its own marks."""
    lines = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for row in table:
        default = f"`{row.default}`" if row.default not in {_NONE, _REQUIRED} else row.default
        lines.append(f"| `{row.name}` | {default} | {row.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def show(table: list[Row]) -> None:
    """Print the table for people, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_lines=False, box=None, pad_edge=False, header_style="bold")
    shown.add_column("setting", no_wrap=True, style="cyan")
    shown.add_column("default", overflow="fold")
    shown.add_column("meaning", overflow="fold")
    for row in table:
        shown.add_row(Text(row.name), Text(row.default), Text(row.meaning.replace("`", "")))
    Console().print(shown)


def duration_text(seconds: float) -> str:
    """``21900.0`` as ``6h5m``, ``0.02`` as ``20ms``: the way that ``worker.settings.seconds`` reads back."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    text, rest = "", seconds
    for size, unit in _UNITS:
        # 24h says more about a day's window than 1d does.
        if rest >= size and not (unit == "d" and seconds < 2 * size):
            count, rest = (rest // size, rest % size) if size > 1 else (rest, 0.0)
            text += f"{count:g}{unit}"
    return text or "0s"


def _default(name: str, field: FieldInfo) -> str:
    if name in _UNSET:
        return _UNSET[name]
    if field.is_required():
        return _REQUIRED
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if _DURATION_VALIDATOR in field.metadata:
        return duration_text(value)
    if isinstance(value, ByteSize):
        return value.human_readable().replace(".0", "")
    if isinstance(value, list | tuple):
        return ",".join(value) or _NONE
    if isinstance(value, dict):
        return ",".join(f"{name}={text}" for name, text in value.items()) or _NONE
    return _NONE if value is None else str(value)
