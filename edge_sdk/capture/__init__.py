"""Source URIs to frames through GStreamer: files and test patterns frame by frame, cameras by their newest frame.

with open_source("clip.mp4", CaptureSettings(width=320, height=192, rate_hz=10.0)) as source:
    for frame in source:
        print(frame.time_s, frame.pixels.mean())

with open_live("rtsp://camera/stream", CaptureSettings(width=320, height=192, policy="latest")) as source:
    while source.state != "ended":
        frame = source.latest()  # None when none has come since; never waits
"""

from __future__ import annotations

from edge_sdk.capture.arenas import limit_arenas
from edge_sdk.capture.feed import Feed
from edge_sdk.capture.history import FrameHistory, FrameWindow
from edge_sdk.capture.live import LiveSource
from edge_sdk.capture.opening import is_live, live_uri, open_live, open_source, refuse_live
from edge_sdk.capture.player import EncodedUnit
from edge_sdk.capture.ring import Clip, GopRing
from edge_sdk.capture.settings import (
    CaptureSettings,
    DecoderStatus,
    HistorySettings,
    LiveSettings,
    SourceInfo,
    SourceStats,
)
from edge_sdk.capture.source import Source
from edge_sdk.capture.states import SourceChange, SourceState

__all__ = [
    "CaptureSettings",
    "Clip",
    "DecoderStatus",
    "EncodedUnit",
    "Feed",
    "FrameHistory",
    "FrameWindow",
    "GopRing",
    "HistorySettings",
    "LiveSettings",
    "LiveSource",
    "Source",
    "SourceChange",
    "SourceInfo",
    "SourceState",
    "SourceStats",
    "is_live",
    "limit_arenas",
    "live_uri",
    "open_live",
    "open_source",
    "refuse_live",
]
