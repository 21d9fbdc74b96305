"""What an exception of a handler means: what its author says of it, or else the default policy (core/failures.py)."""

from __future__ import annotations

import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Final

import structlog

from worker.api import CallTimeout, DeadLetter, Discard, Retry, Signal
from worker.core.failures import classify, status_of
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure

OURS: Final = str(Path(__file__).parents[1])
SHIPPED: Final = str(Path(OURS, "handlers"))
INSTALLED: Final = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})

log = structlog.get_logger("handoff.runner")


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed call: what the decision needs, and what people need to see. ``text`` may quote a person's data: it goes
    to the dead letters and never to logs; ``where`` is the place in the code, ``status`` that of an HTTP answer."""

    failure: Failure
    error: str
    text: str
    where: str
    status: int | None = None

    @property
    def hints(self) -> dict[str, object]:
        """What a line in the log says of where it came from."""
        return {"where": self.where} | ({} if self.status is None else {"status": self.status})


def failed(spec: HandlerSpec, error: BaseException) -> Failed | None:
    """What an exception means; None for ``Discard``, which is no failure. Never raises, whatever the error is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # of a task group, in which one call failed
    verdict = error if isinstance(error, Signal) else _asked(spec, error)
    match verdict:
        case Discard():
            return None
        case Retry():
            # Of what it was raised from, or was made of, the far side's part stays true.
            source = error.__cause__ if isinstance(error, Signal) else error
            outage = source is not None and classify(source, time.time()).outage
            failure = Failure(after=verdict.after, outage=outage, asked=True)
        case DeadLetter():
            failure = Failure(permanent=True)
        case _:
            failure = classify(error, time.time())
    return Failed(failure, type(error).__name__, _text(error), place(error), status_of(error))


def _asked(spec: HandlerSpec, error: BaseException) -> Signal | None:
    """The author's own word on an error. One that can't be had leaves the error what it is."""
    if spec.classify is None:
        return None
    try:
        verdict = spec.classify(error)
        if isinstance(verdict, type) and issubclass(verdict, Signal):
            verdict = verdict()  # the class, as after raise
    except BaseException as broken:  # noqa: BLE001 - in a thread it would take the lane with it
        log.warning(
            "classify_failed",
            handler=spec.name,
            of=type(error).__name__,
            error=type(broken).__name__,
            where=place(broken),
        )
        return None
    if verdict is None or isinstance(verdict, Signal):
        return verdict
    log.warning("classify_failed", handler=spec.name, of=type(error).__name__, error=f"gave {type(verdict).__name__}")
    return None


def place(error: BaseException) -> str:
    """File and line of the author's code that an error came from, or went through on its way from a library."""
    if isinstance(error, CallTimeout):
        # A coroutine's time is up outside of it; where it stood is in the cancellation that it got.
        errors: list[BaseException] = [error]
        while (inner := errors[-1].__cause__ or errors[-1].__context__) is not None and len(errors) < 5:
            errors.append(inner)
        return next((found for each in reversed(errors) if (found := _place(each))), "")
    return _place(error)


def _place(error: BaseException) -> str:
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    return author_line(iter(frames))


def standing(thread: int) -> str:
    """File and line of the author's code at which a thread stands now."""
    frame, found = sys._current_frames().get(thread), []  # noqa: SLF001 - the only way to look at another thread
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return author_line(reversed(found))


def author_line(frames: Iterator[tuple[str, int]]) -> str:
    """The innermost of (file, line), outermost first, that is neither ours nor a library's; else the outermost of a
    library, which is a handler that is installed."""
    found = installed = ""
    for file, line in frames:
        if file.startswith("<frozen ") or (file.startswith(OURS) and not file.startswith(SHIPPED)):
            continue
        name = f"{Path(file).name}:{line}"
        if file.startswith(INSTALLED):
            installed = installed or name
        else:
            found = name
    return found or installed


def _text(error: BaseException) -> str:
    """An error's text as the store can write it: some can't be made, and some hold halves of characters."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - a text is not worth losing the outcome for
        text = f"(its text can't be had: {type(broken).__name__})"
    return text[:1000].encode("utf-8", "replace").decode()
