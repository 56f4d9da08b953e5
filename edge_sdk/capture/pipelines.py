"""Pipeline text for GStreamer, from values, by pure functions: no GStreamer is needed to read or to test them.

Why this order. Frames are dropped to the asked rate before anything touches their pixels. Luma is scaled straight
from the decoder's own luma plane, in one pass with enough taps not to alias: on a 1080p file that costs 0.5 ms a
frame, where the general path (colour matrix, then scaling) costs 4 ms. A rotation comes last, on the small picture.
The range of luma is therefore that of the stream, and `source.py` widens it. File names never enter the text: they
are set as a property, so no name needs quoting.

Where a stream does not say how its colour is coded, GStreamer takes it for BT.709 above 576 lines, and full range for
limited. FFmpeg, OpenCV and all that is built on them take BT.601 at any height, and models were trained on what they
gave; RGB of a file is therefore theirs.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from edge_sdk.capture.codecs import Codec, Container, Decoder
from edge_sdk.capture.settings import MAX_REPEATED_S, CaptureSettings
from edge_sdk.capture.uri import PatternSource
from edge_sdk.types import Value

Scaler = Literal["videoconvertscale", "videoconvert videoscale"]

# Luma is one plane of these. Pictures of other formats (RGB in a JPEG or H.264 stream) are converted first.
LUMA_FORMATS = (
    "GRAY8", "I420", "YV12", "NV12", "NV21", "Y41B", "Y42B", "Y444", "NV16", "NV24", "YUY2", "UYVY",
    "I420_10LE", "I422_10LE", "Y444_10LE", "P010_10LE", "GRAY10_LE32", "I420_12LE", "I422_12LE", "Y444_12LE",
)  # fmt: skip

# Set on the element of that name where it has the property: not every GStreamer version does.
# Without a matrix the scaler copies and scales planes; it would otherwise convert between the colorimetry of the
# stream and the one it guesses from the small size. A decoder goes on after broken data. The rate grid goes on for one
# instant and 1 ms after the last picture, not for a second: containers round times, and where the last one is rounded
# down GStreamer 1.24 would lose that picture without the millisecond. Before 1.22 that property is not there, and the
# grid goes on until the container's end.
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
    """How a coded picture becomes an upright one: direction for `videoflip`, clockwise degrees, whether sides swap."""

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
    """All that decides the pipeline of a file, but for the file itself.

    `colorimetry` is what pictures are taken for, whatever the stream says of them; empty leaves that to the stream.
    """

    container: Container
    codec: Codec
    decoder: Decoder
    settings: CaptureSettings
    scaler: Scaler
    orientation: Orientation = UPRIGHT
    colorimetry: str = ""


def untagged_colorimetry(*, full_range: bool) -> str:
    """What pictures are whose stream says nothing of their colour, in GStreamer's words: range and matrix, BT.601."""
    return f"{1 if full_range else 2}:4:0:0"


def file_text(plan: FilePlan) -> str:
    """A file from its container to frames. The caller sets the file on the element `source`.

    A demuxer has several outputs; the link by media type takes the first track of that codec, and the others, such as
    audio, are left unread.
    """
    demuxer = plan.container.demuxer
    return joined(
        "filesrc name=source",
        f"{demuxer} name=demux demux. ! {plan.codec.media}" if demuxer else "",
        plan.codec.parser,
        f"{plan.decoder.element} name=decoder",
        plan.decoder.after,
        # Behind something that takes any memory a decoder would choose a GPU's.
        f"video/x-raw ! capssetter caps=video/x-raw,colorimetry=(string){plan.colorimetry}" if plan.colorimetry else "",
        frames_text(plan.settings, plan.orientation, plan.scaler),
    )


def pattern_text(source: PatternSource, settings: CaptureSettings, scaler: Scaler) -> str:
    """A test pattern to frames."""
    size = f"width={source.width},height={source.height},framerate={rate_text(source.rate_hz)}"
    return joined(
        f"videotestsrc name=source pattern={source.pattern} num-buffers={source.frames}",
        f"video/x-raw,format=I420,{size},colorimetry=bt601",
        "identity name=decoder",
        frames_text(settings, UPRIGHT, scaler),
    )


def frames_text(settings: CaptureSettings, orientation: Orientation, scaler: Scaler) -> str:
    """Decoded pictures to frames of the asked rate, size and pixels, ready to pull from the appsink `frames`.

    The queue lets decoding go on while a frame is scaled; the sink holds back the decoder when nobody pulls.
    """
    return joined(
        "queue max-size-buffers=3 max-size-bytes=0 max-size-time=0",
        "" if settings.rate_hz is None else _grid(settings.rate_hz),
        luma_text(settings, orientation, scaler) if settings.pixels == "luma" else rgb_text(settings, orientation),
        f"videoflip video-direction={orientation.direction}" if orientation.direction else "",
        "appsink name=frames sync=false max-buffers=4 enable-last-sample=false",
    )


def luma_text(settings: CaptureSettings, orientation: Orientation, scaler: Scaler) -> str:
    """From decoded pictures to luma of the asked size, letterboxed."""
    planes = f"videoconvert name=planes ! video/x-raw,format=(string){{{','.join(LUMA_FORMATS)}}}"
    gray = f"video/x-raw,format=GRAY8,{_size(settings, orientation)}"
    scaling = "method=bilinear2 add-borders=true"
    if scaler == "videoconvertscale":
        return f"{planes} ! videoconvertscale name=scale {scaling} ! {gray}"
    extract = "videoconvert name=luma ! video/x-raw,format=GRAY8"
    return f"{planes} ! {extract} ! videoscale name=scale {scaling} ! {gray}"


def rgb_text(settings: CaptureSettings, orientation: Orientation) -> str:
    """From decoded pictures to RGB of the asked size, letterboxed."""
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
    """The nearest fraction that keeps both 29.97 and 30000/1001 apart and both terms small enough for GStreamer."""
    fraction = Fraction(rate_hz).limit_denominator(10_000)
    return f"{fraction.numerator}/{fraction.denominator}"


def joined(*parts: str) -> str:
    """Pipeline text from its parts; empty ones are left out."""
    return " ! ".join(part for part in parts if part)
