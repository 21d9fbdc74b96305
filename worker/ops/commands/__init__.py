"""The subcommands of ``handoff``, one file each: what a module here names ``command`` is one (worker/ops/cli.py)."""
