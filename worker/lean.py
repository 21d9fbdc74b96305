"""Imported first by our processes, for what it does: structlog comes without rich, 4 MB less in each of them.

structlog loads rich wherever it finds it, for tracebacks that show local variables. We never print those (ops/logs.py).
rich itself stays there for whoever imports it afterwards, as the command line does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

_UNWANTED: Final = "rich"

if "structlog" not in sys.modules and _UNWANTED not in sys.modules:
    # What makes an import of it fail.
    sys.modules[_UNWANTED] = None  # type: ignore[assignment]
    try:
        import_module("structlog")
    finally:
        del sys.modules[_UNWANTED]
