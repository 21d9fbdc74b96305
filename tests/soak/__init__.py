"""The soak: ``make soak`` keeps an installation at work for an hour, with faults now and then, and looks what grows.

    plan.py        the settings, the load and the faults of a run: every bound is so small that it is met within minutes
    feed.py        the load, made while it is sent
    sampler.py     every few seconds: each process (system.py), each key family (families.py), the ledger's drift
    samples.py     what that gives, as data, and the file that it is kept in
    person.py      does what people have to do: reads the quarantine, drops dead letters
    shards.py      what happened, on disk, by partition: no invariant spans two, so each is checked alone
    trends.py      does a series grow?            ┐ pure functions
    verdicts.py    samples in, verdicts out       ┘
    running.py     one run from a plan to a verdict; report.py shows it

The installation, the provider, the faults and the invariants are those of the chaos harness (tests/chaos). Faults that
end or stop a process hit the first worker and the first ingress; the others live as long as the run, for it is in them
that a slow leak would show. Each run of a process is a series of its own.
"""
