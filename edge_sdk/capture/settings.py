"""What a caller asks of a source, and what the source says about itself.

Plain values: importing them loads no GStreamer, and they print and compare in tests and reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

Pixels = Literal["luma", "rgb"]
Policy = Literal["every", "latest"]

# H.264 level 6.2 ends at 16,384 luma samples a side; a larger frame size is a typing error.
MAX_SIDE = 16384
# Longest side of a coded picture, in pixels. A decoder allocates several pictures of the size that a file or camera
# claims, before anything else is known. One of 8192 x 8192 takes 100 MB, and cameras give far smaller ones.
MAX_CODED_SIDE = 8192
# The longest that a picture of a file is repeated on the rate grid. Nobody films longer gaps, but a wrong time stamp of
# a few bytes can ask for one.
MAX_REPEATED_S = 600.0


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, found {value!r}")


class HistorySettings(Value, frozen=True, kw_only=True):
    """The RGB frames that are kept for reasoning: the last `keep_s` seconds, letterboxed, at `rate_hz`.

    Memory is `frames * width * height * 3` bytes, allocated at opening and never more.
    """

    width: int
    height: int
    rate_hz: float = 10.0
    keep_s: float = 15.0

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ConfigError(f"history size must be 1..{MAX_SIDE} a side, found {self.width} x {self.height}")
        for name, value, most in (("rate_hz", self.rate_hz, 1000.0), ("keep_s", self.keep_s, 1e6)):
            if not (math.isfinite(value) and 0.001 <= value <= most):
                raise ConfigError(f"history {name} must be 0.001..{most:g}, found {value}")

    @property
    def frames(self) -> int:
        """The number of frames that are kept."""
        return max(1, math.ceil(self.keep_s * self.rate_hz))

    @property
    def memory_mb(self) -> float:
        """Memory of the frames, in 10^6 bytes."""
        return self.frames * self.width * self.height * 3 / 1e6


class LiveSettings(Value, frozen=True, kw_only=True):
    """When a live source counts as broken, and what is kept of it.

    An attempt ends, and the source is rebuilt after a back-off, if no first picture comes within `connect_timeout_s`,
    if no picture comes for `stall_timeout_s`, or if the picture stays the same for `frozen_timeout_s` (None: not
    checked). After an attempt that got units but no picture, the first limit is longer, up to 20 s: the next keyframe
    may have been far away.

    `pre_roll_s` keeps encoded units for at least that long, in whole GOPs, within `ring_limit_mb` (10^6 bytes); 0 keeps
    none. `history` keeps RGB frames. `protocol` is for RTSP; `jitter_ms` is how long a packet may wait for an earlier
    one. Raises `ConfigError` for values out of range.
    """

    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 2.0
    frozen_timeout_s: float | None = 10.0
    protocol: Literal["tcp", "udp"] = "tcp"
    jitter_ms: int = 100
    pre_roll_s: float = 0.0
    ring_limit_mb: float = 64.0
    history: HistorySettings | None = None

    def __post_init__(self) -> None:
        positive = {"connect_timeout_s": self.connect_timeout_s, "stall_timeout_s": self.stall_timeout_s}
        if self.frozen_timeout_s is not None:
            positive["frozen_timeout_s"] = self.frozen_timeout_s
        for name, value in positive.items():
            if not (math.isfinite(value) and value >= 0.1):
                raise ConfigError(f"{name} must be at least 0.1 s, found {value}")
        _check_choice("protocol", self.protocol, ("tcp", "udp"))
        if self.jitter_ms < 0:
            raise ConfigError(f"jitter_ms must be 0 or more, found {self.jitter_ms}")
        if not (math.isfinite(self.pre_roll_s) and self.pre_roll_s >= 0 and self.ring_limit_mb > 0):
            found = f"{self.pre_roll_s} and {self.ring_limit_mb}"
            raise ConfigError(f"pre_roll_s must be 0 or more and ring_limit_mb above 0, found {found}")


class CaptureSettings(Value, frozen=True, kw_only=True):
    """How the frames of a source should look.

    Pictures are scaled into `width` x `height` with their aspect ratio kept (letterbox, black borders, square
    pixels); `luma` is uint8 with 0 black and 255 white whatever the range of the stream, `rgb` is uint8 R'G'B'.

    `rate_hz` puts the frames on a regular grid that begins at the first decoded frame: each instant k / `rate_hz` gets
    the decoded frame nearest in time. So frames of a faster source are dropped (before scaling), and those of a slower
    one are repeated, for at most 10 minutes. A longer gap is left out, with a warning: a new grid begins at the
    picture after the gap, which is marked `restarted`. The grid ends at the last frame, or one instant later if the
    container does not say how long that frame is shown. None gives every decoded frame at its own presentation time.

    `policy` "every" loses no frame to a slow consumer; it is for files. "latest" gives the newest frame and drops the
    others, after decoding and never before; it is for live sources, whose other settings are in `live`. `decoder` names
    the GStreamer element to decode with; None takes the first that works here. Raises `ConfigError` for values out of
    range.
    """

    width: int
    height: int
    rate_hz: float | None = None
    pixels: Pixels = "luma"
    policy: Policy = "every"
    decoder: str | None = None
    live: LiveSettings = LiveSettings()

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ConfigError(f"frame size must be 1..{MAX_SIDE} a side, found {self.width} x {self.height}")
        if self.rate_hz is not None and not (math.isfinite(self.rate_hz) and 0.001 <= self.rate_hz <= 1000.0):
            raise ConfigError(f"rate_hz must be 0.001..1000 or None, found {self.rate_hz}")
        _check_choice("pixels", self.pixels, get_args(Pixels))
        _check_choice("policy", self.policy, get_args(Policy))


class SourceInfo(Value, frozen=True, kw_only=True):
    """What is known about a source once its first frame is decoded.

    `width` and `height` are those of the upright picture before scaling, in pixels; `rotation_deg` is how far the coded
    picture was turned clockwise to be upright. `rate_hz` is the rate that the container declares (None: variable or
    unknown). `start_time_s` is the container's time of the first decoded frame, which is time 0 of the frames.
    `duration_s` is the container's, to the millisecond. `codec` is `raw` and `decoder` empty for test patterns.
    """

    uri: str
    duration_s: float | None
    start_time_s: float
    width: int
    height: int
    codec: str
    decoder: str
    rate_hz: float | None
    rotation_deg: int


class SourceStats(Value, frozen=True, kw_only=True):
    """Counts of frames so far; at the end of a file `delivered` = `decoded` - `dropped` + `repeated`.

    `dropped` and `repeated` count what the rate grid did. `warnings` says in sentences what was wrong with the source
    although frames came out of it, for example that a file ends earlier than its header says.

    For a live source, `dropped` counts pictures that were decoded and never taken, `units` the encoded units received,
    and `reconnects` the attempts after the first.
    """

    decoded: int = 0
    delivered: int = 0
    dropped: int = 0
    repeated: int = 0
    units: int = 0
    reconnects: int = 0
    warnings: tuple[str, ...] = ()


class DecoderStatus(Value, frozen=True, kw_only=True):
    """One decoder element for one codec: whether it works here, and the reason in words."""

    codec: str
    decoder: str
    usable: bool
    reason: str
