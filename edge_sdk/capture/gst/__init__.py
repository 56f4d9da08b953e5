"""The GStreamer backend, imported by name when a source is opened; importing the rest needs no GStreamer."""

from __future__ import annotations

from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.gst.describe import describe
from edge_sdk.capture.gst.live import check_live, play_live
from edge_sdk.capture.gst.mux import mux
from edge_sdk.capture.gst.player import play
from edge_sdk.capture.gst.probe import camera_media, decoders, features, probe, scaler

__all__ = [
    "Gst",
    "camera_media",
    "check_live",
    "decoders",
    "describe",
    "features",
    "mux",
    "play",
    "play_live",
    "probe",
    "scaler",
]
