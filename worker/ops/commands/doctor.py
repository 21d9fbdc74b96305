"""``handoff doctor``: is this installation safe to rely on?"""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--worker",
    "which",
    metavar="[NAME]",
    is_flag=False,
    flag_value="here",
    help="Ask one thing only: do the workers of this host get work done, or those of this name, host or process id?",
)
@click.option("--json", "as_json", is_flag=True, help="Print {safe, findings: [{level, check, what, why, ...}]}.")
def command(which: str | None, as_json: bool) -> None:
    """Look for settings, of Handoff and of the servers, that are unsafe; say why, and what to change.

    It changes nothing, and shows no secret. Run it where a worker or an ingress runs, with the same environment: before
    going live, and after every change.

    With --worker it is a probe for supervisors and containers: a worker that hears nothing, hangs, or is not there is
    told from one that works or has nothing to do. Celery's own ping is answered by both.

    Exit code 0: nothing is unsafe, though there may be warnings; 1: something is; 2: a server can't be asked.
    """
    from worker.ops import tables
    from worker.ops.doctor.findings import document, exit_code
    from worker.ops.doctor.view import view

    if which is None:
        from worker.ops.doctor.examining import examine

        findings = examine()
    else:
        from worker.ops.installed import installed
        from worker.ops.worker_probe import probe

        with installed() as found:
            findings = probe(found, which)
    if as_json:
        click.echo(tables.as_json(document(findings)))
    else:
        tables.console().print(view(findings))
    raise SystemExit(exit_code(findings))
