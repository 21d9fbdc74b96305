"""Handoff's own settings: can they be used, and do all of them have an effect?"""

from __future__ import annotations

from collections.abc import Iterable

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level
from worker.ops.doctor.secret_checks import CHECK as SECRETS

CHECK = "settings"
_NOT_TRIED = "no ingress and no worker starts with it"


def usable(facts: Facts) -> Iterable[Finding]:
    for error in facts.wrong:
        # Without an address there is nobody to ask, and what is not listed below has not been looked at.
        level = Level.UNKNOWN if error.setting == "HANDOFF_REDIS_URL" else Level.UNSAFE
        check = SECRETS if error.setting.endswith(("_WEBHOOK_SECRET", "_TEAM_SECRETS")) else CHECK
        remedy = error.remedy or f"mend {error.setting}, or leave it out"
        yield Finding(level, check, f"{error.setting}: {error.problem}", _NOT_TRIED, remedy)
    if not facts.wrong:
        yield Finding(Level.OK, CHECK, "every setting can be used")


def without_effect(facts: Facts) -> Iterable[Finding]:
    for line in facts.strays:
        variable = line.partition(" ")[0]
        yield Finding(
            Level.WARN, CHECK, line, "what it was meant to set is as if it were not there", f"mend {variable}"
        )
