"""GStreamer beside other native packages in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A host program that uses sinks and sources of its own, as PyGObject gives them without GstApp.
HOST = """
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
own = Gst.parse_launch("appsrc name=source ! appsink name=sink")
own.get_by_name("source"), own.get_by_name("sink")

import time
import edge_sdk
from edge_sdk.capture import CaptureSettings, Feed, open_live

with edge_sdk.open("test://ball?duration=0.5") as unit:
    assert list(unit.frames())
feed = Feed("rgb", width=64, height=48)
with open_live(feed, CaptureSettings(width=64, height=48, policy="latest")) as source:
    until_s = time.monotonic() + 10
    while source.latest() is None:
        feed.push(bytes(64 * 48 * 3))
        assert time.monotonic() < until_s
        time.sleep(0.01)
    feed.end()
    while source.state != "ended":
        assert time.monotonic() < until_s
        time.sleep(0.01)
"""


def test_a_program_with_a_pipeline_of_its_own_opens_sources() -> None:
    done = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_an_extension_loaded_after_gstreamer_may_throw() -> None:
    """matplotlib's font module throws and catches a C++ exception while it is imported."""
    pytest.importorskip("matplotlib")
    code = "import numpy, edge_sdk.capture.gst, gc; gc.collect(); import matplotlib.figure"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
