"""What `source.py` asks of the module that plays pipelines; `gst/` keeps to it and is opened by name."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.codecs import Codec, Decoder
from edge_sdk.capture.pipelines import Scaler
from edge_sdk.capture.settings import DecoderStatus
from edge_sdk.types import Value


class Media(Value, frozen=True, kw_only=True):
    """GStreamer media types of a file and of its tracks, in the file's order."""

    container: str
    tracks: tuple[str, ...]


class PictureInfo(Value, frozen=True, kw_only=True):
    """Decoded pictures before scaling: pixels a side as coded, whether luma is 0..255 (else 16..235), declared rate.

    `orientation` is GStreamer's `image-orientation` tag, empty without one.
    """

    width: int
    height: int
    full_range: bool
    rate_hz: float | None
    orientation: str


class Counters(NamedTuple):
    """Decoded pictures so far, and those that the rate grid dropped and repeated."""

    decoded: int
    dropped: int
    repeated: int


class Picture(NamedTuple):
    """A scaled picture that owns its pixels, and its stream time in seconds."""

    pixels: NDArray[np.uint8]
    stream_time_s: float


class Player(Protocol):
    """A pipeline that plays; called by `Source` only, from one thread at a time.

    `start_s` is the stream time of the first picture and `start_clock_s` the time that its buffer carries.
    """

    info: PictureInfo
    duration_s: float | None
    start_s: float
    start_clock_s: float

    def pull(self, timeout_s: float) -> Picture | None:
        """The next picture, or None when none came in time. Raises `EOFError` after the last one."""

    def counters(self) -> Counters | None:
        """Counts of the rate grid, None without one."""

    def decoded_until_s(self) -> float | None:
        """The stream time up to which pictures were decoded, None when the decoder does not say."""

    def problems(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, and the error that stopped the pipeline, if one did."""

    def close(self) -> None:
        """Stop and release the pipeline; further calls do nothing."""


class PlayerModule(Protocol):
    """The names that `gst/` offers."""

    def describe(self, path: str, timeout_s: float) -> Media:
        """Look into a file without decoding. Raises `SourceError` when it is no container of a known kind."""

    def play(self, text: str, uri: str | None, timeout_s: float) -> Player:
        """Start the pipeline `text` and wait for its first picture. Raises `SourceError` when none comes."""

    def decoders(self, codec: Codec) -> list[Decoder]:
        """The decoders of `codec` that start here, best first."""

    def scaler(self) -> Scaler:
        """The scaling elements of this GStreamer version."""

    def probe(self) -> tuple[DecoderStatus, ...]:
        """Every known decoder with whether it works here and why."""
