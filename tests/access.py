"""The users of deploy/users.acl, as tests run under them.

Every server of the tests knows them, with one password for all, and for keys of any prefix, for tests share servers by
prefixes; ``tests`` is the tests' own user, who may do everything. On a server that is ``locked`` nobody gets in without
a name, and keys are those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

FILE: Final = Path(__file__).parents[1] / "deploy" / "users.acl"
PASSWORD: Final = "of-the-tests"
ROLES: Final = tuple(re.findall(r"^user handoff-(\w+)", FILE.read_text(), re.MULTILINE))
CLUSTER: Final = "+cluster|slots +asking"
"""What each of them needs besides on the nodes of a cluster. This and what follows stands so in README.md."""
FSYNC: Final = "+multi +exec +waitaof +config|get"
"""What the ingress needs besides for ``HANDOFF_DURABILITY=fsync``."""
SERVERS: Final[Mapping[str, str]] = {
    "replica": "-@all +ping +psync +replconf",
    "sentinel": "resetchannels &__sentinel__:hello -@all +client|kill +client|setname +config|rewrite +exec +info"
    " +multi +ping +publish +role +script|kill +slaveof +subscribe",
}
"""Users that servers themselves log in as: replicas at their primary, Sentinels at both."""
ASKING: Final = "-@all +sentinel|masters"
"""The one right that is needed at Sentinels."""


def rules(*, locked: bool = False, cluster: bool = False) -> str:
    """The file with passwords in it. ``cluster``: with the rights that are needed there."""
    text = re.sub(r"^user handoff-\w+ on", rf"\g<0> >{PASSWORD}", FILE.read_text(), flags=re.MULTILINE)
    if not locked:
        text = text.replace("~handoff:", "~*:").replace("user default off", "user default on nopass ~* &* +@all")
        text = text.replace("&handoff:broker:/0.celery.pidbox", "&*")
    if cluster:
        text = re.sub(r"^user handoff-.*", rf"\g<0> {CLUSTER}", text, flags=re.MULTILINE)
    return f"{text}user tests on >{PASSWORD} ~* &* +@all\n"


def write(folder: Path, *, locked: bool = False, cluster: bool = False) -> Path:
    """The file for a server's ``aclfile``."""
    path = folder / "users.acl"
    path.write_text(rules(locked=locked, cluster=cluster))
    return path


def write_for_several(folder: Path, *, cluster: bool) -> Path:
    """The same for one of several servers: locked, and with the users that those log in as."""
    path = write(folder, locked=True, cluster=cluster)
    own = "".join(f"user {name} on >{PASSWORD} {rights}\n" for name, rights in SERVERS.items())
    path.write_text(path.read_text() + own)
    return path


def of_a_sentinel() -> str:
    """The lines of a Sentinel's configuration that say who may ask it what."""
    users = f"user default off\nuser tests on >{PASSWORD} ~* &* +@all\nuser handoff on >{PASSWORD} {ASKING}\n"
    return f"{users}sentinel sentinel-user tests\nsentinel sentinel-pass {PASSWORD}\n"


def as_user(url: str, user: str) -> str:
    """``url`` with another user: one of ``ROLES``, or ``tests``. A user that the tests did not make up stays."""
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in {"redis", "rediss"} or (
        "@" in parts.netloc and parts.password != PASSWORD
    ):
        return url
    name = user if user == "tests" else f"handoff-{user}"
    return urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"))
