"""Options of handlers from the environment: ``HANDOFF_HANDLER_<NAME>_<OPTION>`` stands above what the decorator says.

NAME is the handler's name in capitals, with ``_`` for whatever is no letter or digit. What can't be understood stops
the start with one line that names the variable, and the value is never printed. The new options are checked like the
first (core/options.py), together with those that stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from worker.core.breaker import Breaker
from worker.core.handlers import HandlerSpec, OptionError, Registry, redefine
from worker.core.options import CHECKS
from worker.core.retry import Backoff
from worker.errors import ConfigurationError
from worker.settings import seconds

PREFIX: Final = "HANDOFF_HANDLER_"
NOTHING: Final = frozenset({"none", "off"})
_WORDS: Final = dict.fromkeys(("true", "on", "yes", "1"), True) | dict.fromkeys(("false", "off", "no", "0"), False)
_LISTED: Final = 20  # names in an error's line


def _text(text: str) -> str:
    return text


def _word(text: str) -> str:
    return text.lower()


def _number(text: str) -> object:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) else text  # the option's own check says what it must be


def _patterns(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _yes_or_no(text: str) -> bool:
    if (word := text.lower()) not in _WORDS:
        raise ValueError("must be true or false")
    return _WORDS[word]


def _backoff(text: str) -> Backoff:
    base, slash, cap = text.partition("/")
    try:
        if slash:
            return Backoff(seconds(base), seconds(cap))
    except ValueError:
        pass  # of two durations that are none, the form of the whole is said, as where there is one only
    raise ValueError("must be base/cap, two durations, for instance 1s/300s")


def _or_nothing(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Also ``none`` or ``off``: the option is taken away."""
    return lambda text: None if text.lower() in NOTHING else parse(text)


PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "on": _or_nothing(_patterns),
    "queue": _text,
    "attempts": _number,
    "retries": _number,
    "timeout": seconds,
    "backoff": _backoff,
    "rate": _or_nothing(_text),
    "team_rate": _or_nothing(_text),
    "concurrency": _number,
    "order_by": _or_nothing(_word),
    "on_exhausted": _word,
    "late": _word,
    "unchanged": _yes_or_no,
    "conflate": _yes_or_no,
    "batch": _or_nothing(_number),
    "batch_wait": seconds,
    "breaker": Breaker.parse,
    "dry_run": _yes_or_no,
}
"""From a variable's text to what the decorator would be given, or ``ValueError``. Functions can't be said in a text."""


def override(registry: Registry, variables: Mapping[str, str]) -> dict[str, HandlerSpec]:
    """The handlers with what ``variables`` (all of the environment's, names in capitals) say of them.

    Raises ``ConfigurationError`` naming the variable.
    """
    found: dict[str, dict[str, str]] = {}  # handler -> option -> variable
    for variable in sorted(variables):
        if variable.startswith(PREFIX):
            handler, option = _meant(variable, registry)
            found.setdefault(handler, {})[option] = variable
    return {
        name: _overridden(spec, found[name], variables) if name in found else spec for name, spec in registry.items()
    }


def in_capitals(name: str) -> str:
    """A handler's name as its variables have it."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _meant(variable: str, registry: Registry) -> tuple[str, str]:
    """The handler and the option that a variable is about: the one pair whose names it is made of."""
    rest = variable.removeprefix(PREFIX)
    meant = [
        (name, option) for name in registry for option in PARSERS if rest == f"{in_capitals(name)}_{option.upper()}"
    ]
    if len(meant) == 1:
        return meant[0]
    if meant:
        pairs = " or ".join(f"{option} of {name!r}" for name, option in meant)
        raise ConfigurationError(variable, f"could be {pairs}", "give one of the handlers another name=")
    named = [name for name in registry if rest.startswith(f"{in_capitals(name)}_")]
    if named:
        raise ConfigurationError(
            variable, f"names no option of {max(named, key=len)!r}", _list("there are", [o.upper() for o in PARSERS])
        )
    raise ConfigurationError(variable, "names no handler", _list("there are", [in_capitals(name) for name in registry]))


def _overridden(spec: HandlerSpec, named: Mapping[str, str], variables: Mapping[str, str]) -> HandlerSpec:
    options: dict[str, Any] = {}
    for option, variable in named.items():
        try:
            options[option] = PARSERS[option](variables[variable].strip())
        except ValueError as error:
            raise ConfigurationError(variable, str(error)) from None
    try:
        made = redefine(spec, options)
    except OptionError as error:
        if error.option in named:
            raise ConfigurationError(named[error.option], error.problem, error.remedy) from None
        # An option of the decorator's can't go together with one of these.
        culprits = ", ".join(
            named[option] for option in named if not _fits(spec, option, options[option])
        ) or ", ".join(named.values())
        problem = f"{error.option} of handler {spec.name!r} {error.problem}"
        raise ConfigurationError(culprits, problem, error.remedy) from None
    return replace(made, overridden=tuple(option for option in CHECKS if option in named))


def _fits(spec: HandlerSpec, option: str, value: object) -> bool:
    try:
        redefine(spec, {option: value})
    except OptionError:
        return False
    return True


def _list(words: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{words} {', '.join(names[:_LISTED])}{more}"
