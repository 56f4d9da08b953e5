"""Read small files of the kernel; one that cannot be read or makes no sense gives None."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Read the file's text without surrounding spaces, newlines and NULs; None if it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """Read the file's only number; None if it holds anything else."""
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None
