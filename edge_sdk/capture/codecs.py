"""The supported containers and codecs, and the elements that read and decode them, in order of preference.

This is data only: which of these elements exist and start on a machine is found by trying (`gst.probe`), never from the
machine's name or a version string.
"""

from __future__ import annotations

from edge_sdk.types import Value


class Decoder(Value, frozen=True, kw_only=True):
    """A GStreamer element that decodes one codec.

    `package` is its Debian package; `after` is the elements that bring its pictures into system memory, empty for most.
    """

    element: str
    package: str
    hardware: bool = False
    after: str = ""


class Codec(Value, frozen=True, kw_only=True):
    """A codec: its name here, its GStreamer media type, its parser, and its decoders, best first."""

    name: str
    media: str
    parser: str
    decoders: tuple[Decoder, ...]


class Container(Value, frozen=True, kw_only=True):
    """A kind of file: its GStreamer media type and demuxer; without a demuxer it is a bare stream of one codec.

    `keeps_clock`: buffers carry the times written in the file, while stream time begins at 0.
    """

    media: str
    demuxer: str = ""
    package: str = ""
    keeps_clock: bool = False


_LIBAV = "gstreamer1.0-libav"
_GOOD = "gstreamer1.0-plugins-good"
_BAD = "gstreamer1.0-plugins-bad"
_BASE = "gstreamer1.0-plugins-base"
_JETSON = "nvidia-l4t-gstreamer"
_NVIDIA = Decoder(element="nvv4l2decoder", package=_JETSON, hardware=True, after="nvvidconv ! video/x-raw,format=I420")


CODECS = (
    Codec(
        name="h264",
        media="video/x-h264",
        parser="h264parse",
        decoders=(
            _NVIDIA,
            Decoder(element="vah264dec", package=_BAD, hardware=True),
            Decoder(element="avdec_h264", package=_LIBAV),
            Decoder(element="openh264dec", package=_BAD),
        ),
    ),
    Codec(
        name="h265",
        media="video/x-h265",
        parser="h265parse",
        decoders=(
            _NVIDIA,
            Decoder(element="vah265dec", package=_BAD, hardware=True),
            Decoder(element="avdec_h265", package=_LIBAV),
            Decoder(element="libde265dec", package=_BAD),
        ),
    ),
    Codec(
        name="vp9",
        media="video/x-vp9",
        parser="vp9parse",
        decoders=(
            _NVIDIA,
            Decoder(element="vavp9dec", package=_BAD, hardware=True),
            Decoder(element="avdec_vp9", package=_LIBAV),
            Decoder(element="vp9dec", package=_GOOD),
        ),
    ),
    Codec(
        name="mjpeg",
        media="image/jpeg",
        parser="jpegparse",
        decoders=(
            Decoder(element="jpegdec", package=_GOOD),
            Decoder(element="avdec_mjpeg", package=_LIBAV),
        ),
    ),
)

# Debian packages of the other elements, for messages that say what to install.
PACKAGES = {
    "filesink": "libgstreamer1.0-0",
    "filesrc": "libgstreamer1.0-0",
    "queue": "libgstreamer1.0-0",
    "appsink": _BASE,
    "videorate": _BASE,
    "videoconvert": _BASE,
    "videoscale": _BASE,
    "videotestsrc": _BASE,
    "videoflip": _GOOD,
    "h264parse": _BAD,
    "h265parse": _BAD,
    "vp9parse": _BAD,
    "jpegparse": _BAD,
    "matroskamux": _GOOD,
    "mp4mux": _GOOD,
    "nvvidconv": _JETSON,
    "nvarguscamerasrc": _JETSON,
    "appsrc": _BASE,
    "capssetter": _GOOD,
    "identity": "libgstreamer1.0-0",
    "openh264enc": _BAD,
    "rtph264depay": _GOOD,
    "rtph265depay": _GOOD,
    "rtpjpegdepay": _GOOD,
    "rtspsrc": _GOOD,
    "tee": "libgstreamer1.0-0",
    "v4l2src": _GOOD,
}

_QTDEMUX = ("video/quicktime", "application/x-3gp", "audio/x-m4a")
_MATROSKADEMUX = ("video/x-matroska", "video/webm", "audio/x-matroska", "audio/webm")

CONTAINERS = (
    *(Container(media=media, demuxer="qtdemux", package=_GOOD) for media in _QTDEMUX),
    *(Container(media=media, demuxer="matroskademux", package=_GOOD, keeps_clock=True) for media in _MATROSKADEMUX),
    Container(media="video/x-msvideo", demuxer="avidemux", package=_GOOD),
    Container(media="video/x-flv", demuxer="flvdemux", package=_GOOD),
    Container(media="video/mpegts", demuxer="tsdemux", package=_BAD),
    *(Container(media=codec.media) for codec in CODECS),
)

INTROSPECTION_PACKAGES = ("gir1.2-gstreamer-1.0", "gir1.2-gst-plugins-base-1.0")


def codec_of(media: str) -> Codec | None:
    """The codec whose GStreamer media type is `media`, None if it is not supported."""
    return next((codec for codec in CODECS if codec.media == media), None)


def container_of(media: str) -> Container | None:
    """The container whose GStreamer media type is `media`, None if it is not supported."""
    return next((container for container in CONTAINERS if container.media == media), None)


def install_command(*packages: str) -> str:
    """The command that installs Debian `packages`, each named once, in order."""
    return f"sudo apt-get install -y {' '.join(dict.fromkeys(packages))}"
