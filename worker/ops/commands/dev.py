"""``handoff dev``: everything in one terminal."""

from __future__ import annotations

import click


class _NotWorking(click.ClickException):
    exit_code = 1


@click.command()
@click.option(
    "--once", is_flag=True, help="Stop when the sample events came through: exit code 0, or 1 if they did not."
)
@click.option(
    "--samples/--no-samples",
    default=None,
    help="Post sample events at the start. Default: only with the built-in log handler, so that handlers of "
    "your own never get made-up events unasked.",
)
@click.option("--deadline", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds to be up in.")
def command(once: bool, samples: bool | None, deadline: float) -> None:
    """Run an embedded Valkey, the ingress and a worker here, and send sample events through them.

    Data stays in .handoff of this directory. With HANDOFF_REDIS_URL set, that server is used and none is started.
    Ctrl-C stops everything; a second one at once.
    """
    from worker.ops import dev
    from worker.runtime.registry import modules_of
    from worker.settings import load_settings

    handlers = modules_of(load_settings())
    tell = handlers == dev.DEFAULT_HANDLERS if samples is None else samples
    if tell and not set(dev.DEFAULT_HANDLERS) <= set(handlers):
        raise click.UsageError("--samples needs worker.handlers.log in HANDOFF_HANDLERS, to see the changes arrive")
    try:
        code = dev.run(dev.Options(once=once, tell=tell, deadline=deadline))
    except dev.NotWorking as error:
        raise _NotWorking(str(error)) from None
    raise SystemExit(code)
