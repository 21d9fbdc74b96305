"""Variables that look like settings and are none: a name that was misspelt leaves a handler off, and nothing says so.

They are told of and stop nothing, for a program beside this one, or a handler of the user's, may be who reads them.
Values are not shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from pydantic_settings import BaseSettings

from worker.from_files import SUFFIX
from worker.handlers import SHIPPED, configured
from worker.member_settings import Options as MemberOptions
from worker.ops.settings_table import rows
from worker.settings import Settings

CLOSE: Final = 0.9  # HANDOFF_HUBSPT_TOKEN is to HANDOFF_HUBSPOT_TOKEN; HANDOFF_HUB_TOKEN, which may be meant so, is not


def strays(variables: Mapping[str, str]) -> Iterator[str]:
    """A line for each of ``variables`` (the environment's, names in capitals) that is set and has no effect. Handlers
    have been loaded."""
    known = {row.name for row in (*rows(Settings), *rows(MemberOptions))}
    known |= {shipped.variable for shipped in SHIPPED.values()}
    families: dict[str, str] = {}
    for module, shipped in SHIPPED.items():
        name, prefix = module.rpartition(".")[2], f"{shipped.variable.rpartition('_')[0]}_"
        options: type[BaseSettings] | None = getattr(sys.modules.get(module), "Options", None)
        if module in configured(variables) and options is not None:
            known |= {row.name for row in rows(options)}
            families[prefix] = f"{name} has no such setting (see handoff settings {name})"
        else:
            families[prefix] = f"{name} is off, for {shipped.variable} is not set"
    for variable in sorted(variables):
        if not variable.startswith("HANDOFF_") or not variables[variable].strip():
            continue
        if variable in known or variable.removesuffix(SUFFIX) in known:
            continue
        family = next((why for prefix, why in families.items() if variable.startswith(prefix)), None)
        if family is not None:
            yield f"{variable} has no effect: {family}"
        elif close := get_close_matches(variable.removesuffix(SUFFIX), known, n=1, cutoff=CLOSE):
            meant = close[0] + (SUFFIX if variable.endswith(SUFFIX) else "")
            yield f"{variable} has no effect: is {meant} meant?"
