"""Source URIs to frames: files and test patterns through GStreamer.

with open_source("clip.mp4", CaptureSettings(width=320, height=192, rate_hz=10.0)) as source:
    for frame in source:
        print(frame.time_s, frame.pixels.mean())
"""

from __future__ import annotations

from edge_sdk.capture.opening import open_source
from edge_sdk.capture.settings import CaptureSettings, DecoderStatus, SourceInfo, SourceStats
from edge_sdk.capture.source import Source

__all__ = ["CaptureSettings", "DecoderStatus", "Source", "SourceInfo", "SourceStats", "open_source"]
