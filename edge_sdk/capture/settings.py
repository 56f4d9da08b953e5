"""What a caller asks of a source, and what the source says about itself.

Plain values: importing them loads no GStreamer, and they print and compare in tests and reports.
"""

from __future__ import annotations

import math
from typing import Literal

from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

Pixels = Literal["luma", "rgb"]
Policy = Literal["every", "latest"]

# H.264 level 6.2 ends at 16,384 luma samples a side; a larger frame is a slip of the pen.
MAX_SIDE = 16384


class CaptureSettings(Value, frozen=True, kw_only=True):
    """How the frames of a source shall look.

    Pictures are scaled into `width` x `height` with their aspect ratio kept (letterbox, black borders, square
    pixels); `luma` is uint8 with 0 black and 255 white whatever the range of the stream, `rgb` is uint8 R'G'B'.

    `rate_hz` puts the frames on a regular grid that begins at the first decoded frame: each instant k / `rate_hz`
    gets the decoded frame nearest in time, so frames of a faster source are dropped (before scaling) and those of a
    slower one are repeated. It ends at the last frame, or one instant later where the container does not say how long
    that one is shown. None gives every decoded frame at its own presentation time.

    `policy` "every" loses no frame to a slow consumer; "latest" is for live sources. `decoder` names the GStreamer
    element to decode with; None takes the first that works here. Raises `ConfigError` for sizes or rates out of range.
    """

    width: int
    height: int
    rate_hz: float | None = None
    pixels: Pixels = "luma"
    policy: Policy = "every"
    decoder: str | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ConfigError(f"frame size must be 1..{MAX_SIDE} a side, got {self.width} x {self.height}")
        if self.rate_hz is not None and not (math.isfinite(self.rate_hz) and 0.001 <= self.rate_hz <= 1000.0):
            raise ConfigError(f"rate_hz must be 0.001..1000 or None, got {self.rate_hz}")


class SourceInfo(Value, frozen=True, kw_only=True):
    """What is known of a source once its first frame is decoded.

    `width` and `height` are those of the upright picture before scaling, in pixels; `rotation_deg` is how far the
    coded picture was turned clockwise to stand upright; `rate_hz` is the rate that the container declares (None:
    variable or unknown). `start_time_s` is the container's time of the first decoded frame, which is time 0 of the
    frames; `duration_s` is what the container says. `codec` is `raw` and `decoder` empty for test sources.
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

    `dropped` and `repeated` are the work of the rate grid. `warnings` says in sentences what was wrong with the
    source although frames came out of it, as when a file ends before its header says.
    """

    decoded: int = 0
    delivered: int = 0
    dropped: int = 0
    repeated: int = 0
    warnings: tuple[str, ...] = ()


class DecoderStatus(Value, frozen=True, kw_only=True):
    """One decoder element for one codec: whether it works here, and why not or that it does."""

    codec: str
    decoder: str
    usable: bool
    reason: str
