"""Reads events out of files to post them: one JSON document, a JSON array of events, or JSON lines.

The bytes of each event are kept as they stand in the file, for the signature is over bytes: a file of one document is
sent whole, of an array each element's own text, of JSON lines each line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from worker.errors import HandoffError


class FileEvent(NamedTuple):
    """One event of a file. ``where`` is the file's name, with the line or the place in the array if it has several."""

    body: bytes
    where: str


def read_file(name: str) -> list[FileEvent]:
    """The events of a file; ``-`` is standard input.

    Raises ``HandoffError`` with the file's name, and the line where the JSON is at fault.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise HandoffError(f"{name}: {error.strerror or error}") from None
    return parse(data, "standard input" if name == "-" else name)


def parse(data: bytes, name: str) -> list[FileEvent]:
    """The events in ``data``; ``name`` is for messages. Raises ``HandoffError`` as ``read_file`` does."""
    if not data.strip():
        raise HandoffError(f"{name}: is empty; give it a JSON event, an array of them, or one a line")
    if _is_lines(data):
        numbered = enumerate(data.splitlines(), start=1)
        return [_line(line, name, number) for number, line in numbered if line.strip()]
    document = _parse(data, name, first_line=1)
    if isinstance(document, list):
        elements = msgspec.json.decode(data, type=list[msgspec.Raw])
        for place, element in enumerate(document):
            _require_object(element, f"{name}[{place}]")
        return [FileEvent(bytes(element), f"{name}[{place}]") for place, element in enumerate(elements)]
    _require_object(document, name)
    return [FileEvent(data, name)]


def _is_lines(data: bytes) -> bool:
    """Whether the first line that isn't blank is a whole JSON document and more lines follow."""
    first, _, rest = data.strip().partition(b"\n")
    if not rest.strip():
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _line(line: bytes, name: str, number: int) -> FileEvent:
    _require_object(_parse(line, name, first_line=number), f"{name}: line {number}")
    return FileEvent(line, f"{name}:{number}")


def _parse(data: bytes, name: str, first_line: int) -> object:
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise HandoffError(f"{name}: line {line}: is not UTF-8") from None
    except json.JSONDecodeError as error:
        # The parser's words name what it expected, and never quote the text.
        raise HandoffError(f"{name}: line {first_line + error.lineno - 1}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise HandoffError(f"{name}: line {first_line}: is nested too deeply") from None


def _require_object(document: object, where: str) -> None:
    if not isinstance(document, dict):
        raise HandoffError(f"{where}: is not a JSON object, so it is no event")
