"""What ``handoff doctor`` knows: which settings, of ours and of the servers, are unsafe.

    settings, environment ┐
    state servers         ├──▶ Facts ──▶ every check of CHECKS ──▶ Findings ──▶ a table or JSON, and an exit code
    broker, workers       ┘

Facts are gathered once, in ``asking`` and beside it, and nothing is changed by that. A check is a pure function from
the facts to findings, so that each is tested on a table of facts as well as on a server made unsafe. It says what it
found where all is well, too: what is not listed has not been looked at.
"""
