"""Logging, set up once per process: structlog for our lines, and the same form for those of Celery, kombu and granian.

Lines go to standard error, so that a command's output stays clean. Each is one JSON object, or coloured text on a
terminal (``HANDOFF_LOG_FORMAT``): ``timestamp`` (ISO 8601, UTC), ``level``, ``event`` (a stable name such as
``delivery.quarantined``, never a sentence with values in it), ``logger``, and fields.

Personal data and secrets never get here because nobody passes them; ``withhold`` is the net below: a field
with such a name is replaced by a mark, and the mark in the log is the bug report.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.settings import Settings

WITHHELD: Final = "[withheld]"
_PERSONAL: Final = frozenset(
    {
        "body", "payload", "data", "content", "notes", "bio", "name", "displayname", "username",
        "handle", "email", "location", "image", "profileurl", "websiteurl",
        "secret", "secrets", "signature", "authorization", "token", "password",
    }
)  # fmt: skip
# These tell of every doorbell or request at INFO; what they carried is in our own lines and metrics.
_CHATTY: Final = ("celery.app.trace", "celery.worker.strategy", "kombu", "asyncio")
# Their lines have whole addresses, which may be secret or ask for somebody by e-mail, and headers of answers.
_TELLTALE: Final = ("httpx", "httpcore")


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (default: standard error). The last call wins.

    Child processes made by fork inherit it; spawned ones call it again.
    """
    out = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    console = settings.log_format == "console" or (settings.log_format == "auto" and out.isatty())

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        withhold,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers(console, out.isatty())],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        if (
            type(old) is logging.StreamHandler
        ):  # ours of an earlier call, or basicConfig's; not a test's or an exporter's
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    for telltale in _TELLTALE:
        logging.getLogger(telltale).setLevel(max(level, logging.WARNING))


def renderers(console: bool, colours: bool) -> list[Processor]:
    """The last processors: an event to one line of text or JSON.

    Tracebacks are the plain ones: structlog's others can show local variables, and those hold people's data.
    """
    if console:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=24)]
    return [
        structlog.processors.format_exc_info,
        _in_front,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of fields whose name says that they may be personal or secret, at any depth of mappings."""
    for key, value in event.items():
        if key.replace("_", "").lower() in _PERSONAL:
            event[key] = WITHHELD
        elif isinstance(value, dict):
            event[key] = withhold(_logger, _method, dict(value))
    return event


def _in_front(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}
