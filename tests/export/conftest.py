"""The export tier needs torch; without it the device tier is tested alone."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


def pytest_report_header() -> str:
    """Says so when this folder is left out."""
    return "export tier: tested" if find_spec("torch") else "export tier: left out, torch is not installed"
