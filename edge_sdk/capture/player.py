"""The interface of the module that plays pipelines, which is imported by name; `gst/` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.codecs import Codec, Decoder
from edge_sdk.capture.feed import Feed
from edge_sdk.capture.live_pipelines import LivePlan
from edge_sdk.capture.pipelines import Scaler
from edge_sdk.capture.platforms import Features
from edge_sdk.capture.settings import DecoderStatus
from edge_sdk.errors import SourceError
from edge_sdk.types import Value


class TooLargeError(SourceError):
    """The coded pictures of a source are larger than any decoder may be given; another decoder would not help."""


class Media(Value, frozen=True, kw_only=True):
    """GStreamer media types of a file and of its tracks, in the file's order."""

    container: str
    tracks: tuple[str, ...]


class PictureInfo(Value, frozen=True, kw_only=True):
    """Properties of decoded pictures before scaling.

    `width` and `height` are the coded size in pixels. `full_range`: luma is 0..255, else 16..235. `tagged`: the stream
    says how its colour is coded, at least its matrix. `rate_hz` is the declared rate. `orientation` is GStreamer's
    `image-orientation` tag, empty without one.
    """

    width: int
    height: int
    full_range: bool
    tagged: bool
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
    """A pipeline that plays; only `Source` calls it, from one thread at a time.

    `start_s` is the stream time of the first picture, `start_clock_s` the time in its buffer.
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
        """The stream time up to which pictures were decoded, None if the decoder does not say."""

    def problems(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, and the error that stopped the pipeline, if one did."""

    def close(self) -> None:
        """Stop and release the pipeline; further calls do nothing."""


class LivePicture(NamedTuple):
    """A scaled picture that owns its pixels: uint8 `[height, width]` luma or `[height, width, 3]` RGB.

    `captured_s` is on the clock of `time.monotonic()`: arrival at this device, or the driver's or the host's stamp.
    `sender_utc_s` is what the sender's clock said when it was taken, seconds since 1970; None before the first
    sender report and for sources that have no such clock.
    """

    pixels: NDArray[np.uint8]
    captured_s: float
    sender_utc_s: float | None


class EncodedUnit(NamedTuple):
    """One encoded picture as received: a JPEG or a byte-stream access unit, with its parameter sets if `key`."""

    data: bytes
    captured_s: float
    key: bool


class TimedUnit(NamedTuple):
    """An encoded picture on its way into a file: when it is shown and when it is decoded, seconds from 0 on."""

    data: bytes
    shown_s: float
    decoded_s: float
    key: bool


class Fault(NamedTuple):
    """Why a pipeline stopped, in one sentence without credentials.

    `refused`: the source refuses, or cannot be used as it is (wrong password, no such stream, an unsupported codec), so
    an immediate retry would not help. `element` is the part of the pipeline that failed, such as `avdec_h264`, if one
    did.
    """

    reason: str
    refused: bool = False
    element: str = ""


class LivePlayer(Protocol):
    """A playing live pipeline. No call waits for pictures; `close` may take as long as tearing down the pipeline."""

    def picture(self) -> LivePicture | None:
        """The newest picture that has not been given yet, None if there is none."""

    def history(self) -> list[LivePicture]:
        """RGB pictures of the history branch since the last call, oldest first."""

    def units(self) -> list[EncodedUnit]:
        """Encoded units since the last call, oldest first."""

    def arrived(self) -> tuple[int, int]:
        """Encoded units received and pictures decoded so far."""

    def info(self) -> PictureInfo | None:
        """Properties of the decoded pictures; None before the first picture."""

    def codec(self) -> str:
        """Name of the stream's codec, `raw` if it is not encoded, empty while it is not known."""

    def decoder(self) -> str:
        """Name of the decoding element, empty while it is not known."""

    def fault(self) -> Fault | None:
        """What has stopped the pipeline: an error, or the end of a stream that should not end."""

    def ended(self) -> bool:
        """Whether the host program has ended its feed and every picture of it has been given."""

    def warnings(self) -> list[str]:
        """Problems since the last call that did not stop the pipeline, each once, without credentials."""

    def close(self) -> None:
        """Stop and release the pipeline; further calls do nothing."""


class PlayerModule(Protocol):
    """The functions that `gst/` provides."""

    def describe(self, path: str, timeout_s: float) -> Media:
        """Look into a file without decoding. Raises `SourceError` if it is not a container of a known kind."""

    def play(self, text: str, uri: str | None, timeout_s: float) -> Player:
        """Start the pipeline `text` and wait for its first picture.

        Raises `SourceError` if none comes, `TooLargeError` if it would be too large.
        """

    def play_live(self, plan: LivePlan, feed: Feed | None) -> LivePlayer:
        """Start the pipeline of `plan`, with the pictures of `feed` if there is one; does not wait.

        Raises `MissingDependencyError`.
        """

    def check_live(self, plan: LivePlan) -> None:
        """Build as much of the pipeline of `plan` as is known, and release it. Raises `MissingDependencyError`."""

    def mux(self, text: str, file: Path, named: Path, units: Sequence[TimedUnit]) -> None:
        """Play the pipeline `text` from `units` into `file`; errors name `named`, the file's final name.

        Raises `OSError`, `SourceError`, `MissingDependencyError`.
        """

    def features(self) -> Features:
        """What GStreamer offers on this machine."""

    def camera_media(self, device: str) -> frozenset[str]:
        """The media types that the V4L2 camera at `device` offers; empty if it cannot be opened."""

    def decoders(self, codec: Codec) -> list[Decoder]:
        """The decoders of `codec` that start here, best first."""

    def scaler(self) -> Scaler:
        """The scaling elements of this GStreamer version."""

    def probe(self) -> tuple[DecoderStatus, ...]:
        """Every known decoder, with whether it works here and why."""
