"""What `handoff dev` keeps in ``.handoff`` of the directory that it is started in.

lock      held while a `handoff dev` runs here, so that two never open the same data
secret    the signing secret that was made up, mode 600
dev.env   the settings of the running `handoff dev`, mode 600; gone when it stops. Other commands read it
valkey/   the embedded server's data, and ``port``: the one it had last
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from worker.errors import ConfigurationError
from worker.settings import MIN_SECRET

FOLDER: Final = Path(".handoff")
_SETTING: Final = ".handoff"


class DevFolder:
    """The folder, made when it is missing."""

    def __init__(self, path: Path = FOLDER) -> None:
        self.path = path
        self.env_file = path / "dev.env"
        self.valkey = path / "valkey"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold its lock. Raises ``ConfigurationError`` when it can't, with the system's reason."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.valkey.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)  # one that was there may be open to others; all data and the secret are below it
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unusable(self.path, error) from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(
                    _SETTING, "another `handoff dev` is running in this directory", "stop it, or start in another one"
                ) from None
            try:
                yield
            finally:
                self.env_file.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def secret(self) -> str:
        """The signing secret of this folder; made up at the first call."""
        file = self.path / "secret"
        try:
            if not file.exists() or not file.read_text().strip():
                _write_private(file, f"ibt_wh_{secrets.token_hex(24)}\n")
            secret = file.read_text().strip()
        except OSError as error:
            raise unusable(file, error) from None
        except UnicodeDecodeError:
            secret = ""
        if len(secret) < MIN_SECRET or "," in secret:
            raise ConfigurationError(str(file), "holds no secret that can be used", "delete it: a new one is made")
        return secret

    def write_env(self, settings: Mapping[str, str]) -> None:
        """Tell other commands of this directory the settings, as lines that a shell can read too."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
        try:
            _write_private(self.env_file, "".join(lines))
        except OSError as error:
            raise unusable(self.env_file, error) from None

    def read_env(self) -> dict[str, str]:
        """The settings of the `handoff dev` that runs here; empty when none does, whatever a killed one left."""
        if not self.env_file.is_file() or not self._is_held():
            return {}
        return {name: value for name, value in dotenv_values(self.env_file, interpolate=False).items() if value}

    def _is_held(self) -> bool:
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False


def _write_private(file: Path, text: str) -> None:
    """Write so that nobody else can read it, not even for a moment, and a reader never sees half of it."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)


def unusable(path: Path, error: OSError) -> ConfigurationError:
    """What to raise when ``path`` can't be written: no permission, no space, something else in its place."""
    return ConfigurationError(
        str(path), f"can't be used: {error.strerror}", "start in a directory that you can write to"
    )
