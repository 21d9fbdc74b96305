"""Fencing tokens: which process has a partition or a lane.

A token is compared, never ordered: a write is done if the token beside the state is the writer's own. So it has to be
one that nobody else ever gets, on whatever server. A counter on the server is not: a server that took the place of
another, which died before it had copied its last writes, counts on from an earlier number and gives two owners the same
one. Chance does it: of 62 random bits, a billion a day meet one another once in ten years with a probability of 1 in 5.
And they would have to meet in one partition, within one lease.
"""

from __future__ import annotations

import secrets


def new_token() -> int:
    """A token that nobody ever had; above 0, which says that nobody has a lane."""
    return secrets.randbits(62) + 1
