"""What `source.py` asks of the module that plays pipelines; `gst/` keeps to it and is opened by name."""

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
    """The coded pictures of a source are larger than any decoder is given; another one would not help."""


class Media(Value, frozen=True, kw_only=True):
    """GStreamer media types of a file and of its tracks, in the file's order."""

    container: str
    tracks: tuple[str, ...]


class PictureInfo(Value, frozen=True, kw_only=True):
    """Decoded pictures before scaling: pixels a side as coded, whether luma is 0..255 (else 16..235), declared rate.

    `tagged`: the stream says how its colour is coded, at least its matrix. `orientation` is GStreamer's
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
    """One encoded picture as it came: an access unit (byte-stream, with its parameter sets where `key`) or a JPEG."""

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

    `refused`: the other side said no (wrong password, no such stream, a codec that is not read); asking again at once
    would be no use. `element` is what failed, as `avdec_h264`, where it was a part of the pipeline.
    """

    reason: str
    refused: bool = False
    element: str = ""


class LivePlayer(Protocol):
    """A playing live pipeline. No call waits for pictures; `close` may take as long as a teardown does."""

    def picture(self) -> LivePicture | None:
        """The newest picture that was not given yet, None when there is none."""

    def history(self) -> list[LivePicture]:
        """RGB pictures of the history branch since the last call, oldest first."""

    def units(self) -> list[EncodedUnit]:
        """Encoded units since the last call, oldest first."""

    def arrived(self) -> tuple[int, int]:
        """Encoded units received and pictures decoded so far."""

    def info(self) -> PictureInfo | None:
        """What leaves the decoder; None before the first picture."""

    def codec(self) -> str:
        """Name of the stream's codec, `raw` for uncompressed ones, empty while it is not known."""

    def decoder(self) -> str:
        """The element that decodes, empty while it is not known."""

    def fault(self) -> Fault | None:
        """What has stopped the pipeline: an error, or the end of a stream that should have none."""

    def ended(self) -> bool:
        """Whether the host has said that its pushed stream is over and every picture of it was given."""

    def warnings(self) -> list[str]:
        """What was wrong since the last call, each thing once, although the pipeline goes on; without credentials."""

    def close(self) -> None:
        """Stop and release the pipeline; further calls do nothing."""


class PlayerModule(Protocol):
    """The names that `gst/` offers."""

    def describe(self, path: str, timeout_s: float) -> Media:
        """Look into a file without decoding. Raises `SourceError` when it is no container of a known kind."""

    def play(self, text: str, uri: str | None, timeout_s: float) -> Player:
        """Start the pipeline `text` and wait for its first picture.

        Raises `SourceError` when none comes, `TooLargeError` when it would be too large.
        """

    def play_live(self, plan: LivePlan, feed: Feed | None) -> LivePlayer:
        """Start the pipeline of `plan`, which plays what `feed` is pushed where there is one; waits for nothing.

        Raises `MissingDependencyError`.
        """

    def check_live(self, plan: LivePlan) -> None:
        """Build the pipeline of `plan`, as far as it is known, and let it go. Raises `MissingDependencyError`."""

    def mux(self, text: str, file: Path, named: Path, units: Sequence[TimedUnit]) -> None:
        """Play the pipeline `text` from `units` into `file`; errors name `named`, the name that it is to have.

        Raises `OSError`, `SourceError`, `MissingDependencyError`.
        """

    def features(self) -> Features:
        """What GStreamer has here."""

    def camera_media(self, device: str) -> frozenset[str]:
        """The media types that the V4L2 camera at `device` gives; empty when it cannot be opened."""

    def decoders(self, codec: Codec) -> list[Decoder]:
        """The decoders of `codec` that start here, best first."""

    def scaler(self) -> Scaler:
        """The scaling elements of this GStreamer version."""

    def probe(self) -> tuple[DecoderStatus, ...]:
        """Every known decoder with whether it works here and why."""
