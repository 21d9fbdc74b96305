"""The users of deploy/users.acl, as tests run under them.

Every server of the tests knows them, with one password for all, and for keys of any prefix, for tests share servers by
prefixes; ``tests`` is the tests' own user, who may do everything. On a server that is ``locked`` nobody gets in without
a name, and keys are those of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

FILE: Final = Path(__file__).parents[1] / "deploy" / "users.acl"
PASSWORD: Final = "of-the-tests"
ROLES: Final = tuple(re.findall(r"^user handoff-(\w+)", FILE.read_text(), re.MULTILINE))


def rules(*, locked: bool = False) -> str:
    """The file with passwords in it."""
    text = re.sub(r"^user handoff-\w+ on", rf"\g<0> >{PASSWORD}", FILE.read_text(), flags=re.MULTILINE)
    if not locked:
        text = text.replace("~handoff:", "~*:").replace("user default off", "user default on nopass ~* &* +@all")
        text = text.replace("&handoff:broker:/0.celery.pidbox", "&*")
    return f"{text}user tests on >{PASSWORD} ~* &* +@all\n"


def write(folder: Path, *, locked: bool = False) -> Path:
    """The file for a server's ``aclfile``."""
    path = folder / "users.acl"
    path.write_text(rules(locked=locked))
    return path


def as_user(url: str, user: str) -> str:
    """``url`` with another user: one of ``ROLES``, or ``tests``. A user that the tests did not make up stays."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or ("@" in parts.netloc and parts.password != PASSWORD):
        return url
    name = user if user == "tests" else f"handoff-{user}"
    return urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"))
