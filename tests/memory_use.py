"""Memory of the process that runs the tests."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest


def anonymous_mb() -> float:
    """Memory of this process that is no file's, in 2^20 bytes; skips the test where /proc does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("no /proc here to read this process's memory from")
    return int(re.findall(r"RssAnon:\s+(\d+)", status.read_text())[0]) / 1024


def resident_mb() -> float:
    """Memory of this process that is in RAM now, its files included, in 2^20 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
