"""Fixtures of the tests that ask a video LLM."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking_bundles import make_asking
from asking_clips import make_clip

from edge_sdk.bundle import Bundle


@pytest.fixture(scope="session")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo's student beside a tiny video LLM of two adapters."""
    return make_asking(tmp_path_factory.mktemp("asking"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of moving pictures at 30 a second."""
    return make_clip(tmp_path_factory.mktemp("clip") / "short.mp4", seconds=0.5)
