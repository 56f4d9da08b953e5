"""The input of a pipeline for what the host program pushes: the `appsrc` named `source`."""

from __future__ import annotations

from fractions import Fraction

from edge_sdk.capture.gst.binding import NS, Gst, GstVideo
from edge_sdk.capture.uri import PushSource

# How many buffers may wait before the first element: enough for a moment in which this process does not run.
_ENCODED_ROOM = 8
_RAW_ROOM = 2
_OLDEST_LEAVES = 2  # GST_APP_LEAKY_TYPE_DOWNSTREAM; the enumeration is not in every version's introspection data


class AppInlet:
    """An `appsrc` whose running time is the clock of `time.monotonic()`. For its signals, see `samples.pull`."""

    def __init__(self, appsrc: Gst.Element, source: PushSource) -> None:
        self._appsrc = appsrc
        self._raw = raw_format(source)
        self._size = (source.width or 0, source.height or 0)
        self._room = _RAW_ROOM if self._raw else _ENCODED_ROOM
        values = {"caps": Gst.Caps.from_string(caps_text(source)), "block": False, "max-bytes": 0}
        values |= {"max-buffers": self._room, "leaky-type": _OLDEST_LEAVES if self._raw else 0}
        for name, value in values.items():
            self._appsrc.set_property(name, value)

    def full(self) -> bool:
        """Whether there is no room for another unit or frame."""
        return int(self._appsrc.get_property("current-level-buffers")) >= self._room

    def push(self, data: bytes, captured_s: float) -> None:
        """Take one unit or frame; when full, the oldest raw frame is dropped."""
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = round(captured_s * NS)
        if self._raw:
            self._describe(buffer, self._raw)
        self._appsrc.emit("push-buffer", buffer)

    def end(self) -> None:
        """End the stream: nothing more will be pushed."""
        self._appsrc.emit("end-of-stream")

    def _describe(self, buffer: Gst.Buffer, name: str) -> None:
        """Describe where the rows lie: pushed frames do not have the padding that GStreamer expects."""
        width, height = self._size
        offsets, strides = ([0], [width * 3]) if name == "RGB" else ([0, width * height], [width, width])
        GstVideo.buffer_add_video_meta_full(
            buffer,
            GstVideo.VideoFrameFlags.NONE,
            GstVideo.VideoFormat.from_string(name),
            width,
            height,
            len(offsets),
            offsets + [0] * (4 - len(offsets)),
            strides + [0] * (4 - len(strides)),
        )


def raw_format(source: PushSource) -> str:
    """GStreamer's name of the raw format that is pushed, empty for encoded units."""
    return {"nv12": "NV12", "rgb": "RGB"}.get(source.format, "")


def caps_text(source: PushSource) -> str:
    """The GStreamer caps of what is pushed."""
    if source.format == "mjpeg":
        return "image/jpeg"
    if not raw_format(source):
        return f"video/x-{source.format},stream-format=byte-stream,alignment=au"
    rate = Fraction(source.rate_hz).limit_denominator(1001)
    size = f"width={source.width},height={source.height},framerate={rate.numerator}/{rate.denominator}"
    return f"video/x-raw,format={raw_format(source)},{size}"
