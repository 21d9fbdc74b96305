"""Settings of a handler, read as Handoff reads its own: ``HANDOFF_...`` variables and ``.env``.

    class Options(HandlerSettings, env_prefix="HANDOFF_HUBSPOT_"):
        token: SecretStr = Field(description="Access token of a private app.")

    options = Options.load()

Each may be in a file, too: ``HANDOFF_HUBSPOT_TOKEN_FILE=/run/secrets/hubspot`` (worker/from_files.py). A missing or
wrong one stops the worker's start with one line that names the variable, and never shows the value.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import ConfigurationError
from worker.from_files import FromFiles
from worker.settings import CommaList, Duration, SecretList

__all__ = ["CommaList", "Duration", "HandlerSettings", "Pairs", "SecretList"]


def _pairs(value: object) -> object:
    """``"a=b,c=d"`` as a mapping."""
    if not isinstance(value, str):
        return value
    found = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, separator, text = part.partition("=")
        if not separator or not name.strip():
            raise ValueError("must be name=value pairs, comma-separated")
        found[name.strip()] = text.strip()
    return found


Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
"""``a=b,c=d``"""


class HandlerSettings(FromFiles):
    """Base of a handler's settings; give it an ``env_prefix``, and each field a description."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        frozen=True,
        str_strip_whitespace=True,  # a secret that was read from a file tends to end in a new line
    )

    @classmethod
    def load(cls) -> Self:
        """Read them. Raises ``ConfigurationError`` naming the first variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(str(part) for part in first["loc"][:1]).upper()
            variable = f"{cls.model_config.get('env_prefix', '')}{name}"
            problem = "is not set" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(variable, problem, _remedy(cls, first)) from None


def _remedy(cls: type[BaseSettings], first: Any) -> str:
    field = cls.model_fields.get(str(first["loc"][0])) if first["loc"] else None
    return (field.description or "").replace("`", "").rstrip(".") if field is not None else ""
