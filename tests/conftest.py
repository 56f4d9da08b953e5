"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_bundle import folder as folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and configurations beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder.name}: these tests need the data folder beside the checkout")
    return folder
