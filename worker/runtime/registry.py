"""Loads the handlers that ``HANDOFF_HANDLERS`` names and those that are configured, and routes events to them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from worker.api import registered
from worker.core.changes import Change
from worker.core.dispatch import Route, Terms
from worker.core.handlers import Registry
from worker.errors import ConfigurationError
from worker.handlers import LOG, configured
from worker.runtime.dry_run import dry
from worker.runtime.forward import Forwarder
from worker.runtime.overrides import override
from worker.settings import Settings, variables


def load_handlers(settings: Settings) -> Registry:
    """Import the modules and answer with every handler they define, with the options that the environment gives it.

    Raises ``ConfigurationError`` in one line for a module that does not import, a handler that can't be used, or a
    variable that is about none of them.
    """
    for module in modules_of(settings):
        try:
            importlib.import_module(module)
        except ConfigurationError:
            raise
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                raise ConfigurationError(
                    "HANDOFF_HANDLERS", f"there is no module {module!r}", "is its folder on PYTHONPATH?"
                ) from None
            raise _broken(module, error) from error
        except (Exception, SystemExit) as error:  # some modules check their own settings, and exit
            raise _broken(module, error) from error
    if not registered():  # every change would be released to nobody, and nothing would look wrong
        raise ConfigurationError(
            "HANDOFF_HANDLERS", "defines no handler", "name the modules whose functions have @handler, or route(...)"
        )
    found = {
        name: spec if spec.forward is None else replace(spec, function=Forwarder(settings, spec.forward))
        for name, spec in override(registered(), variables()).items()
    }
    return {name: dry(spec) if spec.dry_run or settings.dry_run else spec for name, spec in found.items()}


def modules_of(settings: Settings) -> list[str]:
    """The modules to load: the user's, then those of ours that are configured; without any, the one that logs."""
    return list(dict.fromkeys([*settings.handlers, *configured(variables())])) or [LOG]


def _broken(module: str, error: BaseException) -> ConfigurationError:
    """The author's own error, with the place: the last frame outside the import system."""
    where = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if "importlib" not in file and file != __file__:
            where = f" at {Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        where = f" at {Path(error.filename).name}:{error.lineno}"
    text = " ".join(str(error).split())[:200]
    return ConfigurationError("HANDOFF_HANDLERS", f"{module!r} does not import: {type(error).__name__}: {text}{where}")


def router(registry: Registry) -> Route:
    """(event type, change) -> the handlers that want it, remembered per kind of event."""
    remembered: dict[tuple[object, ...], Sequence[Terms]] = {}
    specs = [(spec, Terms(spec.name, spec.order_by, spec.conflate)) for spec in registry.values()]

    def route(event_type: str, change: Change | None) -> Sequence[Terms]:
        key = (event_type, None) if change is None else (event_type, change.kind, change.stale)
        wanting = remembered.get(key)
        if wanting is None:
            if len(remembered) > 1000:  # types are open: a provider gone mad must not fill the memory
                remembered.clear()
            wanting = remembered[key] = [terms for spec, terms in specs if spec.wants(event_type, change)]
        return wanting

    return route
