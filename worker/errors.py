"""Every error that Handoff raises, as one tree.

    HandoffError                 anything below; its text is one line that an operator can act on
    ├── ConfigurationError       a setting, or a handler's definition, is wrong; names it and the remedy
    ├── StoreError               the Redis or Valkey server said no, or could not be asked
    │   ├── StoreUnavailable     no answer in time, no connection, or a server that refuses writes for now
    │   └── LeaseLost            another process owns what this one wanted to write: nothing was written
    └── BrokerUnavailable        a doorbell could not be rung; harmless, the sweeper rings again

Signals that a handler raises (``Retry``, ``Discard``, ``DeadLetter``) are outcomes, not errors of ours: see
``worker.api``.
"""

from __future__ import annotations


class HandoffError(Exception):
    """Base of every error raised by Handoff. ``str(error)`` is a single line."""


class ConfigurationError(HandoffError):
    """A setting or a handler definition can't be used.

    ``setting`` is the environment variable (or ``@handler`` option) at fault, ``problem`` what is wrong with it
    and ``remedy`` what to do. A value is never part of the text: it may be a secret.
    """

    def __init__(self, setting: str, problem: str, remedy: str = "") -> None:
        self.setting = setting
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{setting}: {problem}" + (f" ({remedy})" if remedy else ""))


class StoreError(HandoffError):
    """The state server refused a command or could not be reached."""


class StoreUnavailable(StoreError):
    """No answer in time, no connection, or writes refused (read-only replica, out of memory, loading)."""


class LeaseLost(StoreError):
    """The fencing token is no longer the owner's. Nothing was written; whoever holds the lease goes on."""


class BrokerUnavailable(HandoffError):
    """A doorbell could not be put on the broker. The sweeper rings again, so callers only count it."""
