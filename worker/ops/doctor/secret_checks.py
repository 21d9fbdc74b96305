"""The secrets that deliveries are signed with: are there any, and can they be guessed?

Whoever has seen one signed delivery can try secrets against it, without asking us and billions of them a second. So a
secret is as good as what of it is random: the provider's are generated, behind ``ibt_wh_``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level

CHECK: Final = "secret"
PREFIX: Final = b"ibt_wh_"
SHORT: Final = 16  # characters after the prefix; so many of 64 kinds are 96 bits
FEW: Final = 6  # different characters; one of 16 random hex digits has 10, and fewer than 6 once in 50,000


def webhook(facts: Facts) -> Iterable[Finding]:
    settings = facts.settings
    if "HANDOFF_WEBHOOK_SECRET" in {error.setting for error in facts.wrong}:
        return  # told already, by ``settings_checks``
    if not settings.secrets and not settings.secrets_by_team:
        yield Finding(
            Level.UNSAFE,
            CHECK,
            "there is no signing secret",
            "the ingress does not start, for it could not tell the provider's deliveries from anybody's",
            "copy the webhook's signing secret from Inbox's settings to HANDOFF_WEBHOOK_SECRET",
        )
        return
    yield from _judge(settings.secrets, "HANDOFF_WEBHOOK_SECRET", "the webhook's")


def teams(facts: Facts) -> Iterable[Finding]:
    for team, secrets in facts.settings.secrets_by_team.items():
        yield from _judge(secrets, "HANDOFF_TEAM_SECRETS", f"team {team}'s")


def _judge(secrets: Sequence[bytes], setting: str, whose: str) -> Iterable[Finding]:
    for number, secret in enumerate(secrets, 1):
        which = f"{whose} secret" if len(secrets) == 1 else f"{whose} secret {number} of {len(secrets)}"
        random = secret.removeprefix(PREFIX)
        problem = (
            f"is too short: {len(random)} characters, without the provider's prefix"
            if len(random) < SHORT
            else f"has only {len(set(random))} different characters"
            if len(set(random)) < FEW
            else ""
        )
        if problem:
            why = "it can be guessed from one signed delivery, and then anybody can send events"
            remedy = f"have Inbox make a new signing secret, and put it into {setting}"
            yield Finding(Level.UNSAFE, CHECK, f"{which} {problem}", why, remedy)
        else:
            yield Finding(Level.OK, CHECK, f"{which} is long enough")
