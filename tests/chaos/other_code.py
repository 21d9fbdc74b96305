"""Other code for some workers to run beside the rest, as in the middle of an upgrade.

A shipped tree has no history to take a previous release from, so by default it is this code with every script's text
changed by a comment: the scripts of both are loaded side by side, under digests of their own, and each version has to
read what the other has written. With a revision it is that revision's code, from git.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("worker", "ingress")
REVISION: Final = "CHAOS_OTHER_REVISION"
"""The variable that names the revision."""


def other_code(folder: Path) -> Path:
    """Where the other packages are, under ``folder``; made at the first call."""
    made = folder / "other-code"
    if not made.exists():
        revision = os.environ.get(REVISION)
        fresh = folder / "other-code.tmp"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        if revision:
            _from_git(revision, fresh)
        else:
            _with_other_digests(fresh)
        fresh.rename(made)
    return made


def _from_git(revision: str, folder: Path) -> None:
    command = ["git", "-C", str(ROOT), "archive", revision, *PACKAGES]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")


def _with_other_digests(folder: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    scripts = list((folder / "worker" / "store" / "lua").glob("*.lua"))
    assert scripts
    for path in scripts:
        path.write_text(path.read_text() + "-- other code\n")
