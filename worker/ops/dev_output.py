"""What `handoff dev` prints: its children's lines with their names before them, its own words, and the summary."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import click

from worker.ops import logs
from worker.ops.dev_folder import FOLDER

_COLOURS: Final = {"valkey": "magenta", "ingress": "cyan", "worker": "green", "dev": "bright_white"}
_WIDTH: Final = max(map(len, _COLOURS))
_NEVER_SHOWN: Final = ("logger", "timestamp")  # in a terminal they are noise; the JSON has them


class Output:
    """Prints to standard output; ``raw`` passes the children's JSON on as it is, for programs that read along."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        (self._render,) = logs.renderers(console=True, colours=sys.stdout.isatty())

    def line(self, name: str, text: str) -> dict[str, Any] | None:
        """Print a child's line; if it is one of our log lines, return its fields."""
        fields = _fields(text)
        shown = text
        if fields is not None and not self._raw:
            readable = {key: value for key, value in fields.items() if key not in _NEVER_SHOWN}
            shown = str(self._render(None, "", readable))
        for each in shown.splitlines():
            self._print(name, each)
        return fields

    def say(self, text: str) -> None:
        """Print words of `handoff dev` itself."""
        for each in text.splitlines():
            self._print("dev", click.style(each, bold=True))

    def _print(self, name: str, text: str) -> None:
        click.echo(f"{click.style(f'{name:<{_WIDTH}} |', fg=_COLOURS.get(name))} {text}")


def _fields(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None


def welcome(url: str, *, told: bool, own_server: bool, made_secret: bool) -> str:
    """How to go on from here, with commands to copy."""
    handoff = command_name()
    lines = ["", "Handoff is up."]
    if told:
        lines += [
            "Five posts came in: four events, one of them twice and one out of order. Three changes came out,",
            "in order: assigned, reassigned, unassigned (see the worker's lines above).",
        ]
    secret = f"the one in {FOLDER / 'secret'}" if made_secret else "yours, in HANDOFF_WEBHOOK_SECRET"
    data = f"{FOLDER / 'valkey'}, kept for the next start; delete {FOLDER} to begin afresh"
    lines += [
        "",
        f"  Webhook    POST {url}/webhooks/inbox, signed with {secret}",
        "  In another terminal, in this directory:",
        f"    {handoff} send --sample                  the same story for a new team",
        f"    {handoff} send --sample --count 5000 --duplicates 0.2 --shuffle 16",
        f"    {handoff} send event.json                events of your own",
        f"    {handoff} --help                         what else there is",
        "  Handlers   write a module, then start with HANDOFF_HANDLERS=yourmodule",
        f"  Data       {data if own_server else 'on the server in HANDOFF_REDIS_URL'}",
        "  Stop       Ctrl-C",
        "",
    ]
    return "\n".join(lines)


def command_name() -> str:
    """How this command is called in a second terminal: ``handoff`` where that is on the path, else by its file."""
    program = Path(sys.argv[0])
    if shutil.which("handoff") or program.name != "handoff":
        return "handoff"
    resolved = program.absolute()
    here = Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(resolved)
