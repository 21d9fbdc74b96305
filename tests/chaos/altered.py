"""Runs a module as ``python -m`` would, in a process that was altered before: its clock, or a safeguard taken out.

    python -m tests.chaos.altered --clock 300 --sabotage fencing -- celery -A worker worker

No code of Handoff's knows of this: what is altered is altered from outside.
"""

from __future__ import annotations

import argparse
import runpy
import sys


def main() -> None:
    parser = argparse.ArgumentParser(prog="altered")
    parser.add_argument("--clock", type=float, default=0.0, help="seconds that the clock is fast")
    parser.add_argument("--sabotage", default="", help="the safeguard to take out")
    parser.add_argument("module")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if asked.clock:
        from tests.chaos import clock

        clock.set_off(asked.clock)
    if asked.sabotage:
        from tests.chaos import sabotage

        sabotage.SABOTAGES[asked.sabotage].commit()
    sys.argv = [asked.module, *asked.words]
    runpy.run_module(asked.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
