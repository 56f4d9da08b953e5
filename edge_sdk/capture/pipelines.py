"""Pipeline text for GStreamer, made from values by pure functions; reading and testing them needs no GStreamer.

Why this order: frames are dropped to the asked rate before anything touches their pixels. Luma is scaled directly from
the decoder's own luma plane, in one pass with enough taps not to alias. On a 1080p file that costs 0.5 ms a frame; the
general path (colour matrix, then scaling) costs 4 ms. A rotation comes last, on the small picture. Luma therefore has
the range of the stream, and `source.py` widens it. File names never enter the text: they are set as a property, so no
name needs quoting.

If a stream does not say how its colour is coded, GStreamer assumes BT.709 above 576 lines, and takes full range for
limited. FFmpeg, OpenCV and everything built on them assume BT.601 at any height, and models were trained on pictures
from these. So RGB of a file is converted as they do it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from edge_sdk.capture.codecs import Codec, Container, Decoder
from edge_sdk.capture.settings import MAX_REPEATED_S, CaptureSettings
from edge_sdk.capture.uri import PatternSource
from edge_sdk.types import Value

Scaler = Literal["videoconvertscale", "videoconvert videoscale"]

# Formats with luma as one plane. Pictures of other formats (RGB in a JPEG or H.264 stream) are converted first.
LUMA_FORMATS = (
    "GRAY8", "I420", "YV12", "NV12", "NV21", "Y41B", "Y42B", "Y444", "NV16", "NV24", "YUY2", "UYVY",
    "I420_10LE", "I422_10LE", "Y444_10LE", "P010_10LE", "GRAY10_LE32", "I420_12LE", "I422_12LE", "Y444_12LE",
)  # fmt: skip

# Set on the element of that name if it has the property, which depends on the GStreamer version.
# Without a matrix the scaler copies and scales planes; otherwise it would convert between the colorimetry of the stream
# and the one that it guesses from the small size. A decoder continues after broken data. The rate grid continues for
# one instant and 1 ms after the last picture, not for a second. Without the millisecond, GStreamer 1.24 would lose the
# last picture if the container has rounded its time down. Before 1.22 this property does not exist, and the grid
# continues until the container's end.
TUNING: dict[str, dict[str, str]] = {
    "decoder": {"max-errors": "-1", "output-corrupt": "true"},
    "luma": {"matrix-mode": "none", "dither": "none"},
    "scale": {"matrix-mode": "none", "dither": "none"},
    "rate": {
        "max-closing-segment-duplication-duration": "1000000",
        "max-duplication-time": f"{round(MAX_REPEATED_S * 1e9)}",
    },
}


class Orientation(Value, frozen=True, kw_only=True):
    """How a coded picture becomes upright: direction for `videoflip`, clockwise degrees, whether the sides swap."""

    direction: str = ""
    rotation_deg: int = 0
    swaps_sides: bool = False


UPRIGHT = Orientation()

# Keys: values of GStreamer's `image-orientation` tag.
ORIENTATIONS: dict[str, Orientation] = {
    "rotate-0": UPRIGHT,
    "rotate-90": Orientation(direction="90r", rotation_deg=90, swaps_sides=True),
    "rotate-180": Orientation(direction="180", rotation_deg=180),
    "rotate-270": Orientation(direction="90l", rotation_deg=270, swaps_sides=True),
    "flip-rotate-0": Orientation(direction="horiz"),
    "flip-rotate-90": Orientation(direction="ur-ll", rotation_deg=90, swaps_sides=True),
    "flip-rotate-180": Orientation(direction="vert", rotation_deg=180),
    "flip-rotate-270": Orientation(direction="ul-lr", rotation_deg=270, swaps_sides=True),
}


class FilePlan(Value, frozen=True, kw_only=True):
    """Everything that determines the pipeline of a file, except the file itself.

    `colorimetry` overrides what the stream says about its colours; empty leaves that to the stream.
    """

    container: Container
    codec: Codec
    decoder: Decoder
    settings: CaptureSettings
    scaler: Scaler
    orientation: Orientation = UPRIGHT
    colorimetry: str = ""


def untagged_colorimetry(*, full_range: bool) -> str:
    """GStreamer's text for the colorimetry assumed for untagged streams: the range and the BT.601 matrix."""
    return f"{1 if full_range else 2}:4:0:0"


def file_text(plan: FilePlan) -> str:
    """Pipeline text from a file's container to frames. The caller sets the file on the element `source`.

    A demuxer has several outputs; the link by media type takes the first track of that codec, and leaves the others,
    such as audio, unread.
    """
    demuxer = plan.container.demuxer
    return joined(
        "filesrc name=source",
        f"{demuxer} name=demux demux. ! {plan.codec.media}" if demuxer else "",
        plan.codec.parser,
        f"{plan.decoder.element} name=decoder",
        plan.decoder.after,
        # video/x-raw, because a decoder would choose GPU memory if the next element takes any memory.
        f"video/x-raw ! capssetter caps=video/x-raw,colorimetry=(string){plan.colorimetry}" if plan.colorimetry else "",
        frames_text(plan.settings, plan.orientation, plan.scaler),
    )


def pattern_text(source: PatternSource, settings: CaptureSettings, scaler: Scaler) -> str:
    """Pipeline text from a test pattern to frames."""
    size = f"width={source.width},height={source.height},framerate={rate_text(source.rate_hz)}"
    return joined(
        f"videotestsrc name=source pattern={source.pattern} num-buffers={source.frames}",
        f"video/x-raw,format=I420,{size},colorimetry=bt601",
        "identity name=decoder",
        frames_text(settings, UPRIGHT, scaler),
    )


def frames_text(settings: CaptureSettings, orientation: Orientation, scaler: Scaler) -> str:
    """Pipeline text from decoded pictures to frames of the asked rate, size and pixels, at the appsink `frames`.

    The queue lets decoding continue while a frame is scaled; the sink holds the decoder back if nobody pulls.
    """
    return joined(
        "queue max-size-buffers=3 max-size-bytes=0 max-size-time=0",
        "" if settings.rate_hz is None else _grid(settings.rate_hz),
        luma_text(settings, orientation, scaler) if settings.pixels == "luma" else rgb_text(settings, orientation),
        f"videoflip video-direction={orientation.direction}" if orientation.direction else "",
        "appsink name=frames sync=false max-buffers=4 enable-last-sample=false",
    )


def luma_text(settings: CaptureSettings, orientation: Orientation, scaler: Scaler) -> str:
    """Pipeline text from decoded pictures to luma of the asked size, letterboxed."""
    planes = f"videoconvert name=planes ! video/x-raw,format=(string){{{','.join(LUMA_FORMATS)}}}"
    gray = f"video/x-raw,format=GRAY8,{_size(settings, orientation)}"
    scaling = "method=bilinear2 add-borders=true"
    if scaler == "videoconvertscale":
        return f"{planes} ! videoconvertscale name=scale {scaling} ! {gray}"
    extract = "videoconvert name=luma ! video/x-raw,format=GRAY8"
    return f"{planes} ! {extract} ! videoscale name=scale {scaling} ! {gray}"


def rgb_text(settings: CaptureSettings, orientation: Orientation) -> str:
    """Pipeline text from decoded pictures to RGB of the asked size, letterboxed."""
    small = f"video/x-raw,{_size(settings, orientation)}"
    return f"videoscale name=scale method=bilinear2 add-borders=true ! {small} ! videoconvert ! video/x-raw,format=RGB"


def _size(settings: CaptureSettings, orientation: Orientation) -> str:
    width, height = settings.width, settings.height
    if orientation.swaps_sides:
        width, height = height, width
    return f"width={width},height={height},pixel-aspect-ratio=1/1"


def _grid(rate_hz: float) -> str:
    return f"videorate name=rate skip-to-first=true ! video/x-raw,framerate={rate_text(rate_hz)}"


def rate_text(rate_hz: float) -> str:
    """The nearest fraction that keeps 29.97 and 30000/1001 apart, with terms small enough for GStreamer."""
    fraction = Fraction(rate_hz).limit_denominator(10_000)
    return f"{fraction.numerator}/{fraction.denominator}"


def joined(*parts: str) -> str:
    """Pipeline text from its parts; empty ones are left out."""
    return " ! ".join(part for part in parts if part)
