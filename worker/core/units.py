"""Sizes as people read them."""

from __future__ import annotations

from typing import Final

_SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def size(count: int) -> str:
    """Bytes as ``1.5 KiB``."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
