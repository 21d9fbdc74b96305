"""``python -m ingress`` that says what it does (``tests.bench.steps``)."""

import sys

from ingress.__main__ import main
from tests.bench import steps

if __name__ == "__main__":
    steps.install(steps.INGRESS)
    sys.exit(main())
