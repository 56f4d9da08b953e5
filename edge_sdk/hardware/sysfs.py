"""Small files of the kernel; one that is silent or makes no sense is None."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's text without what surrounds it; None where it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """The file's only number."""
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None
