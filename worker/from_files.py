"""Settings from files: each variable may name a file that has its value, as Docker and Kubernetes hand out secrets.

    HANDOFF_WEBHOOK_SECRET_FILE=/run/secrets/webhook_secret    instead of HANDOFF_WEBHOOK_SECRET=...

What is read is the file without the line's end. A variable that is set itself goes before its file. The environment
of a process is shown to more people than one thinks (``docker inspect``, ``/proc``), and children inherit it; a file
has an owner and a mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from worker.errors import ConfigurationError

SUFFIX: Final = "_FILE"
_MOST: Final = 1024 * 1024  # bytes; what is larger is no setting


class FromFiles(BaseSettings):
    """Base of settings that may come from files."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values given in code, the environment, ``.env``: the files of each go with it."""
        del file_secret_settings  # a directory of files by the settings' names: one place for all, and no other
        names = list(_names(settings_cls))
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            source.env_vars = _with_files(source.env_vars, names)
        return init_settings, env_settings, dotenv_settings


def _names(settings: type[BaseSettings]) -> Iterator[str]:
    """The variables that are read, in small letters, as pydantic-settings has them."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        yield from (
            (str(one).lower() for one in alias.choices)
            if isinstance(alias, AliasChoices)
            else (f"{prefix}{name}".lower(),)
        )


def _with_files(variables: Mapping[str, str | None], names: list[str]) -> dict[str, str | None]:
    found = dict(variables)
    for name in names:
        file = f"{name}{SUFFIX.lower()}"
        if file not in names and found.get(file) and not found.get(name):  # some are settings by that very name
            found[name] = _read(file.upper(), str(found[file]))
    return found


def _read(variable: str, path: str) -> str:
    """The value that is in a file. Raises ``ConfigurationError``, which does not show it."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST + 1).decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(variable, f"can't be read: {error.strerror}", "name a file that can") from None
    except UnicodeDecodeError:
        raise ConfigurationError(variable, "is not UTF-8 text") from None
    if not text or len(text) > _MOST:
        raise ConfigurationError(variable, "is an empty file" if not text else "is too large a file")
    return text
