"""GStreamer beside other native packages in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_an_extension_loaded_after_gstreamer_may_throw() -> None:
    """matplotlib's font module throws and catches a C++ exception while it is imported."""
    pytest.importorskip("matplotlib")
    code = "import numpy, edge_sdk.capture.gst, gc; gc.collect(); import matplotlib.figure"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
