"""Invariant 7: a process that lost its lease commits nothing.

The workers write down each lease that they got, and each commit with the server's answer (witness.py). A commit that
the server accepted, sent after somebody else had got a later lease of the same lane or partition, is a write by a
process that had lost its lease. Tokens are by chance and say nothing of which lease is later; times do: one was asked
for when the other had been got.
"""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.history import Finding, History, Taken


def single_writer(history: History) -> Finding:
    leases: dict[str, list[Taken]] = defaultdict(list)
    own = {(taken.what, taken.token): taken for taken in history.taken}
    for taken in sorted(history.taken, key=lambda taken: taken.at):
        leases[taken.what].append(taken)
    evidence = []
    refused = 0
    for commit in history.committed:
        refused += not commit.accepted
        mine = own.get((commit.what, commit.token))
        if mine is None or not commit.accepted:
            continue
        for other in reversed(leases[commit.what]):
            if other.at <= mine.at:
                break
            if mine.at < other.asked and other.at < commit.sent:
                evidence.append(
                    f"{commit.what} was taken by {other.pid} at {other.at:.3f}, and {commit.pid} wrote to it after "
                    f"{commit.sent:.3f}, by its lease of {mine.at:.3f}"
                )
                break
    checked = f"{len(history.taken)} leases, {len(history.committed)} commits, {refused} of them refused"
    return Finding(7, "single writer", checked, evidence)
