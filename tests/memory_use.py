"""Memory of the process that runs the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def anonymous_mb() -> float:
    """Memory of this process that is no file's; skips the test where /proc does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("no /proc here to read this process's memory from")
    return int(re.findall(r"RssAnon:\s+(\d+)", status.read_text())[0]) / 1024
