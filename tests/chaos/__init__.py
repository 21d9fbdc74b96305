"""The chaos harness: ``make chaos`` breaks everything around Handoff, and says which invariants held.

    seed ─▶ workload.py   what the provider sends, and when       ┐ pure functions
         └▶ schedule.py   which fault begins when, on what        ┘
    cluster.py     the server with its append-only file, a proxy for each process, ingresses, prefork workers, and a
                   supervisor that starts again whatever ends
    provider.py    posts as the provider does: doubled, shuffled, dropped and late, tried again until it is answered 202
    faults.py      breaks what the schedule says, and mends it
    handlers.py    the users' handlers, in the workers; each call writes its start and its end (recorder.py)
    terms.py       what they are
    witness.py     in the workers too: which process took which lease, and which of its commits were accepted
    books.py       asks the server, at the end, for the ledger, the dead letters and the quarantine
    history.py     all of that as data
    check_*.py     the invariants of the design, as pure functions from a history to findings
    running.py     one run from a plan to a verdict; report.py shows it
    altered.py     starts a worker with another clock or with a safeguard taken out (clock.py, sabotage.py)

Times are seconds of the machine's monotonic clock, which all its processes share and no fault touches. What handlers
and workers record goes to files that are only appended to, one for each process, in one write a line: what a killed
process had written is whole.
"""
