"""GStreamer, opened by name when a source is: the rest of the package needs none to be imported."""

from __future__ import annotations

from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.gst.describe import describe
from edge_sdk.capture.gst.player import play
from edge_sdk.capture.gst.probe import decoders, probe, scaler

__all__ = ["Gst", "decoders", "describe", "play", "probe", "scaler"]
