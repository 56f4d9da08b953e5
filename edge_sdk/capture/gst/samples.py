"""A sample's picture as an array, its times, and what the decoder says about its pictures.

A buffer is mapped, copied and unmapped in one place, because a buffer that stays mapped is never freed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.gst.binding import NS, Gst, GstVideo
from edge_sdk.capture.player import PictureInfo
from edge_sdk.errors import SourceError

# GST_VIDEO_COLOR_RANGE_0_255, whose name is not valid in Python; 0 as a range or matrix means "not known".
_RANGE_0_255 = 1

_NTP = Gst.Caps.from_string("timestamp/x-ntp")
# Seconds from 1900, where NTP begins, to 1970: RFC 5905 6.
_NTP_TO_UNIX_S = 2_208_988_800
# A clock that shows a time before 2020-01-01 was never set.
_EARLIEST_UTC_S = 1_577_836_800.0


def picture_info(pipeline: Gst.Pipeline) -> PictureInfo:
    """Properties of the decoded pictures; the range is that of the planes that luma is taken from, if it is taken."""
    decoded = _source_pad(pipeline, "decoder")
    caps = decoded.get_current_caps() if decoded is not None else None
    if decoded is None or caps is None:
        raise SourceError("its decoder has no output")
    planes, said = _source_pad(pipeline, "planes"), caps.get_structure(0)
    timed, rate, per = said.get_fraction("framerate")
    return PictureInfo(
        width=said.get_int("width")[1],
        height=said.get_int("height")[1],
        full_range=_full_range(planes.get_current_caps() if planes is not None else caps),
        tagged=_tagged(pipeline),
        rate_hz=rate / per if timed and rate and per else None,
        orientation=_orientation(decoded),
    )


def _full_range(caps: Gst.Caps | None) -> bool:
    """Whether luma is 0..255: as the stream says, even if it does not say its matrix, else as GStreamer assumes.

    Pictures in GPU memory may have formats about which GStreamer knows only the size; their luma is taken as 0..255.
    """
    told = _colorimetry(caps)
    if told is not None and int(told.range) != 0:
        return int(told.range) == _RANGE_0_255
    assumed = GstVideo.VideoInfo.new_from_caps(caps) if caps is not None else None
    return assumed is None or int(assumed.colorimetry.range) == _RANGE_0_255


def _tagged(pipeline: Gst.Pipeline) -> bool:
    """Whether the encoded stream says its colour matrix. JPEG has a fixed matrix, which its decoders know.

    The parser's caps are used because parsers leave out what the stream does not say; some decoders fill in a guess.
    """
    decoder = pipeline.get_by_name("decoder")
    pad = decoder.get_static_pad("sink") if decoder is not None else None
    caps = pad.get_current_caps() if pad is not None else None
    if caps is None or caps.get_structure(0).get_name() in ("image/jpeg", "video/x-raw"):
        return True
    told = _colorimetry(caps)
    return told is not None and int(told.matrix) != 0


def _colorimetry(caps: Gst.Caps | None) -> GstVideo.VideoColorimetry | None:
    """What caps say about colour, with unknown parts left unknown; None if they say nothing."""
    text = caps.get_structure(0).get_string("colorimetry") if caps is not None else None
    told = GstVideo.VideoColorimetry()
    return told if text and told.from_string(text) else None


def _source_pad(pipeline: Gst.Pipeline, name: str) -> Gst.Pad | None:
    element = pipeline.get_by_name(name)
    return element.get_static_pad("src") if element is not None else None


def _orientation(pad: Gst.Pad) -> str:
    """The `image-orientation` tag that came with the stream; files may carry several lists of tags."""
    index = 0
    while event := pad.get_sticky_event(Gst.EventType.TAG, index):
        known, orientation = event.parse_tag().get_string(Gst.TAG_IMAGE_ORIENTATION)
        if known and orientation:
            return orientation
        index += 1
    return ""


def _video_info(caps: Gst.Caps | None) -> GstVideo.VideoInfo:
    info = GstVideo.VideoInfo.new_from_caps(caps) if caps is not None else None
    if info is None:
        raise SourceError("its decoder does not state the format of its pictures")
    return info


def pull(sink: Gst.Element, timeout_s: float) -> Gst.Sample | None:
    """The next sample of an `appsink`; None if none comes in time, or no more will come.

    This uses the signal, because the method is missing if the program has used an `appsink` before it loaded GstApp.
    """
    return cast(Gst.Sample | None, sink.emit("try-pull-sample", round(timeout_s * NS)))


def times_s(sample: Gst.Sample) -> tuple[float, float]:
    """The sample's stream time (negative before the file's own zero) and the time in its buffer, in seconds."""
    buffer = sample.get_buffer()
    if buffer is None or buffer.pts == Gst.CLOCK_TIME_NONE:
        raise SourceError("its pictures have no presentation times; copy the stream into an MP4 or Matroska file")
    sign, time_ns = sample.get_segment().to_stream_time_full(Gst.Format.TIME, buffer.pts)
    return sign * time_ns / NS, buffer.pts / NS


def captured_s(sample: Gst.Sample, base_ns: int) -> float:
    """When the sample was captured, on the clock of `time.monotonic()`; `base_ns` is its pipeline's base time.

    It is never later than now: when several packets of an RTSP source are late together, its clock model takes that as
    the new delay, and time stamps lie in the future until the model has recovered (2 s).
    """
    buffer, now_s = sample.get_buffer(), time.monotonic()
    if buffer is None or buffer.pts == Gst.CLOCK_TIME_NONE:
        return now_s
    running_ns = sample.get_segment().to_running_time(Gst.Format.TIME, buffer.pts)
    return now_s if running_ns == Gst.CLOCK_TIME_NONE else min(now_s, (base_ns + running_ns) / NS)


def sender_utc_s(sample: Gst.Sample) -> float | None:
    """When the sample was taken by the sender's clock, in seconds since 1970; None if unknown or never set."""
    buffer = sample.get_buffer()
    stamp = buffer.get_reference_timestamp_meta(_NTP) if buffer is not None else None
    utc_s = stamp.timestamp / NS - _NTP_TO_UNIX_S if stamp is not None else 0.0
    return utc_s if utc_s >= _EARLIEST_UTC_S else None


def encoded(sample: Gst.Sample) -> tuple[bytes, bool]:
    """A copy of the sample's bytes, and whether a decoder can begin with this sample."""
    buffer = sample.get_buffer()
    if buffer is None:
        raise SourceError("an encoded unit came without its bytes")
    with mapped(buffer) as data:
        return bytes(data), not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)


def pixels(sample: Gst.Sample) -> NDArray[np.uint8]:
    """A copy of the sample's picture, `[height, width]` or `[height, width, 3]`; rows may be padded in the buffer."""
    info, buffer = _video_info(sample.get_caps()), sample.get_buffer()
    if buffer is None:
        raise SourceError("a picture came without its bytes")
    meta = GstVideo.buffer_get_video_meta(buffer)
    offset, stride = (meta.offset[0], meta.stride[0]) if meta is not None else (info.offset[0], info.stride[0])
    size, step = (info.height, info.width), info.finfo.pixel_stride[0]
    shape = size if step == 1 else (*size, step)
    strides = (stride, 1) if step == 1 else (stride, step, 1)
    with mapped(buffer) as data:
        copied: NDArray[np.uint8] = np.ndarray(shape, np.uint8, data, offset, strides).copy()
        return copied


@contextmanager
def mapped(buffer: Gst.Buffer) -> Iterator[bytes | memoryview]:
    """The buffer's bytes, readable inside the `with` only."""
    mapped, info = buffer.map(Gst.MapFlags.READ)
    if not mapped:
        raise SourceError("a picture's memory cannot be read")
    try:
        yield info.data
    finally:
        buffer.unmap(info)
