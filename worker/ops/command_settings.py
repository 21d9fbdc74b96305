"""The settings of a command: the usual ones, or those of the `handoff dev` that runs in this directory."""

from __future__ import annotations

import os

import click

from worker.ops.dev_folder import DevFolder
from worker.settings import Settings, load_settings


def command_settings() -> Settings:
    """The settings that a command in a terminal means.

    Where no state server is named (neither ``HANDOFF_REDIS_URL`` nor ``.env``) and a `handoff dev` runs in this
    directory, its settings fill in whatever is not set, and a line on standard error says so. Raises
    ``ConfigurationError``.
    """
    settings = load_settings()
    folder = DevFolder()
    if "redis_url" in settings.model_fields_set or not (found := folder.read_env()):
        return settings
    for name, value in found.items():
        if name.removeprefix("HANDOFF_").lower() not in settings.model_fields_set:
            os.environ[name] = value
    load_settings.cache_clear()
    click.echo(f"Using the settings of the running `handoff dev` ({folder.env_file}).", err=True)
    return load_settings()
