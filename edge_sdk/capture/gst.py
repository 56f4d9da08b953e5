"""GStreamer: the only module that imports `gi`, opened by name when a source is.

Pictures are pulled with time-outs, so that Ctrl-C is never waited for; while a source plays, no Python runs on
GStreamer's threads. A buffer is mapped, copied and unmapped in one place, because one that stays mapped is never
freed. A pipeline is always taken to the NULL state, on errors too, which ends its threads and closes its files.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture.codecs import (
    CODECS,
    INTROSPECTION_PACKAGES,
    PACKAGES,
    Codec,
    Decoder,
    container_of,
    install_command,
)
from edge_sdk.capture.pipelines import TUNING, Scaler
from edge_sdk.capture.player import Counters, Media, Picture, PictureInfo
from edge_sdk.capture.settings import DecoderStatus
from edge_sdk.errors import MissingDependencyError, SourceError

# GStreamer on Debian brings libunwind into the process, whose `_Unwind_Resume` would then serve every extension that
# is loaded later and crash it at its first C++ exception. The compiler's own library must be found first.
with suppress(OSError):
    ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)

try:
    import gi

    for _namespace in ("Gst", "GstApp", "GstBase", "GstVideo"):
        gi.require_version(_namespace, "1.0")
    from gi.repository import GLib, Gst, GstApp, GstBase, GstVideo
except ImportError as _error:
    raise MissingDependencyError(
        f"reading video needs GStreamer's Python binding, which does not load ({_error}); run: pip install "
        f"'edge-sdk[gst]', or {install_command('python3-gi', *INTROSPECTION_PACKAGES)} and a virtual environment "
        "with --system-site-packages"
    ) from _error
except ValueError as _error:
    raise MissingDependencyError(
        f"reading video needs GStreamer's introspection data, which does not load ({_error}); "
        f"run: {install_command(*INTROSPECTION_PACKAGES)}"
    ) from _error

Gst.init(None)

_NS = 1_000_000_000
_POLL_S = 0.1
_RANGE_16_235 = 2  # GST_VIDEO_COLOR_RANGE_16_235; its name is not one in Python
_HEAD_BYTES = 1 << 16  # of a file, from which its kind is told
_FINAL = Gst.MessageType.ERROR | Gst.MessageType.EOS | Gst.MessageType.APPLICATION


def describe(path: str, timeout_s: float) -> Media:
    """What kind of file `path` is, and which tracks it holds, found without decoding.

    Raises `SourceError` for a file of no known kind, or one that does not show its tracks in time;
    `MissingDependencyError` when the demuxer is not installed.
    """
    with Path(path).open("rb") as file:
        caps, _ = GstBase.type_find_helper_for_data(None, file.read(_HEAD_BYTES))
    kind = caps.get_structure(0).get_name() if caps is not None else ""
    container = container_of(kind)
    if container is None:
        raise SourceError(f"it is {kind or 'of a kind that GStreamer does not recognise'}")
    if not container.demuxer:
        return Media(container=kind, tracks=(kind,))
    if Gst.ElementFactory.find(container.demuxer) is None:
        raise MissingDependencyError(f"no plugin here reads {kind}; run: {install_command(container.package)}")
    return Media(container=kind, tracks=_tracks(container.demuxer, path, time.monotonic() + timeout_s))


def _tracks(demuxer: str, path: str, deadline_s: float) -> tuple[str, ...]:
    """Media types of the tracks, once the demuxer has named them all, or at the end or a failure what it has named."""
    pipeline = _pipeline(f"filesrc name=source ! {demuxer} name=demux", Path(path).absolute().as_uri())
    demux = pipeline.get_by_name("demux")
    if demux is None:
        raise MissingDependencyError(f"GStreamer made no {demuxer}")
    demux.connect("pad-added", _discard)
    demux.connect("no-more-pads", _announce)
    try:
        pipeline.set_state(Gst.State.PLAYING)
        for message in _messages(pipeline, deadline_s):
            if not demux.srcpads:
                raise SourceError(
                    f"{demuxer} finds no track in it ({_reason(message)}); a recording that was cut off before it was "
                    "closed looks like this: record into fragmented MP4 or Matroska"
                )
            return tuple(kind for pad in demux.srcpads if (kind := _media_of(pad)))
    finally:
        pipeline.set_state(Gst.State.NULL)
    raise SourceError("it does not show its tracks in time")


def _discard(demux: Gst.Element, pad: Gst.Pad) -> None:
    """Let a demuxer's output flow into nothing: an output that leads nowhere would stop the demuxer.

    The pipeline is asked for here, not handed in: a callback that holds the pipeline is a cycle that is never freed.
    """
    pipeline = cast(Gst.Pipeline, demux.get_parent())
    sink = Gst.ElementFactory.make_with_properties("fakesink", ["sync", "async"], [False, False])
    target = sink.get_static_pad("sink") if sink is not None else None
    if sink is not None and target is not None:
        pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(target)


def _announce(demux: Gst.Element) -> None:
    demux.post_message(Gst.Message.new_application(demux, Gst.Structure.new_empty("tracks")))


def _media_of(pad: Gst.Pad) -> str:
    caps = pad.get_current_caps()
    return caps.get_structure(0).get_name() if caps is not None and caps.get_size() else ""


class GstPlayer:
    """A playing pipeline whose pictures arrive at the appsink `frames`."""

    def __init__(self, text: str, uri: str | None, timeout_s: float) -> None:
        self._pipeline: Gst.Pipeline | None = _pipeline(text, uri)
        self._sink = cast(GstApp.AppSink, self._pipeline.get_by_name("frames"))
        self._rate = self._pipeline.get_by_name("rate")
        self._first: Gst.Sample | None = None
        self._counters: Counters | None = None
        self._warnings: list[str] = []
        try:
            self._start(self._pipeline, timeout_s)
        except BaseException:
            self.close()
            raise

    def _start(self, pipeline: Gst.Pipeline, timeout_s: float) -> None:
        """Play until the first picture, and keep it. A gap before it prerolls the sink, so that is no sign of one."""
        pipeline.set_state(Gst.State.PLAYING)
        progress, deadline_s = self.counters(), time.monotonic() + timeout_s
        while (first := self._sink.try_pull_sample(round(_POLL_S * _NS))) is None:
            error = self._read_bus()
            if error is not None:
                raise SourceError(error)
            if self._sink.is_eos():
                raise SourceError("it holds no picture that can be decoded")
            if self.counters() != progress:  # at a low rate many pictures are decoded for the first that comes out
                progress, deadline_s = self.counters(), time.monotonic() + timeout_s
            if time.monotonic() > deadline_s:
                raise SourceError("no picture came out of it in time")
        self._first = first
        self.info = _picture_info(pipeline)
        self.start_s, self.start_clock_s = _times_s(first)
        known, duration = pipeline.query_duration(Gst.Format.TIME)
        self.duration_s = duration / _NS if known and duration >= 0 else None

    def pull(self, timeout_s: float) -> Picture | None:
        """The next picture, or None when none came in time. Raises `EOFError` after the last one."""
        if self._pipeline is None:
            raise EOFError
        sample, self._first = self._first or self._sink.try_pull_sample(round(timeout_s * _NS)), None
        if sample is not None:
            return Picture(_pixels(sample), _times_s(sample)[0])
        if self._sink.is_eos():
            raise EOFError
        return None

    def counters(self) -> Counters | None:
        """Counts of the rate grid, None without one; they stay readable after `close`."""
        if self._rate is not None:
            decoded, dropped, repeated = (int(self._rate.get_property(name)) for name in ("in", "drop", "duplicate"))
            self._counters = Counters(decoded, dropped, repeated)
        return self._counters

    def decoded_until_s(self) -> float | None:
        """The stream time up to which pictures were decoded, None when the decoder does not say."""
        decoder = self._pipeline.get_by_name("decoder") if self._pipeline is not None else None
        known, position = decoder.query_position(Gst.Format.TIME) if decoder is not None else (False, 0)
        return position / _NS if known else None

    def problems(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, each once, and the error that stopped the pipeline, if one did."""
        error = self._read_bus()
        warnings, self._warnings = self._warnings, []
        return list(dict.fromkeys(warnings)), error

    def _read_bus(self) -> str | None:
        """Collect warnings; returns the first error."""
        bus = self._pipeline.get_bus() if self._pipeline is not None else None
        while bus is not None and (message := bus.pop_filtered(Gst.MessageType.ERROR | Gst.MessageType.WARNING)):
            if message.type == Gst.MessageType.ERROR:
                return _reason(message)
            self._warnings.append(_reason(message))
        return None

    def close(self) -> None:
        """Take the pipeline to NULL, which ends its threads and closes its files, and let go of it."""
        self.counters()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.set_state(Gst.State.NULL)
            self._rate = self._first = None
            del self._sink


def play(text: str, uri: str | None, timeout_s: float) -> GstPlayer:
    """Start the pipeline `text` on the file at `uri` (None: it needs none) and wait for its first picture.

    Raises `SourceError` when none comes within `timeout_s`, `MissingDependencyError` for a missing element.
    """
    return GstPlayer(text, uri, timeout_s)


def scaler() -> Scaler:
    """The scaling elements of this GStreamer version: `videoconvertscale` is new in 1.22."""
    return "videoconvertscale" if Gst.ElementFactory.find("videoconvertscale") else "videoconvert videoscale"


def decoders(codec: Codec) -> list[Decoder]:
    """The decoders of `codec` that start here, best first."""
    return [decoder for decoder in codec.decoders if not _why_not(decoder)]


def probe() -> tuple[DecoderStatus, ...]:
    """Every known decoder with whether it works here and why; the first usable one of a codec is taken."""
    found: list[DecoderStatus] = []
    for codec in CODECS:
        chosen = next(iter(decoders(codec)), None)
        for decoder in codec.decoders:
            why_not = _why_not(decoder)
            reason = why_not or (
                "used" if decoder is chosen else f"works; {chosen.element if chosen else ''} comes first"
            )
            found.append(DecoderStatus(codec=codec.name, decoder=decoder.element, usable=not why_not, reason=reason))
    return tuple(found)


@cache
def _why_not(decoder: Decoder) -> str:
    """Why `decoder` cannot be used here, empty when it can. Going to READY opens the device of a hardware decoder."""
    needed = decoder.after.partition(" ")[0]
    if needed and Gst.ElementFactory.find(needed) is None:
        return f"needs {needed}; {install_command(PACKAGES[needed])}"
    element = Gst.ElementFactory.make(decoder.element)
    if element is None:
        return f"not installed; {install_command(decoder.package)}"
    started = element.set_state(Gst.State.READY)
    element.set_state(Gst.State.NULL)
    return "does not start on this machine" if started == Gst.StateChangeReturn.FAILURE else ""


def _pipeline(text: str, uri: str | None) -> Gst.Pipeline:
    try:
        pipeline = cast(Gst.Pipeline, Gst.parse_launch(text))
    except GLib.Error as error:
        raise _parse_error(error) from error
    for name, values in TUNING.items():
        element = pipeline.get_by_name(name)
        for key, value in values.items():
            if element is not None and element.find_property(key) is not None:
                Gst.util_set_object_arg(element, key, value)
    if uri is not None:
        cast(Gst.URIHandler, pipeline.get_by_name("source")).set_uri(uri)
    return pipeline


def _parse_error(error: GLib.Error) -> MissingDependencyError:
    """The error for pipeline text that GStreamer refuses: the text is ours, so what is wrong is a missing element."""
    quoted = re.search(r'"([^"]+)"', error.message)
    element = quoted.group(1) if quoted else ""
    package = PACKAGES.get(element)
    hint = f"; run: {install_command(package)}" if package else ""
    return MissingDependencyError(f"GStreamer cannot build the pipeline: {error.message}{hint}")


def _messages(pipeline: Gst.Pipeline, deadline_s: float) -> Iterator[Gst.Message]:
    """Errors, the end and our own messages until the deadline; waits in short steps so that signals are handled."""
    bus = pipeline.get_bus()
    while time.monotonic() < deadline_s:
        message = bus.timed_pop_filtered(round(_POLL_S * _NS), _FINAL)
        if message is not None:
            yield message


def _reason(message: Gst.Message) -> str:
    """One sentence for an error, warning or end-of-stream message."""
    if message.type == Gst.MessageType.ERROR:
        error, _ = message.parse_error()
    elif message.type == Gst.MessageType.WARNING:
        error, _ = message.parse_warning()
    else:
        return "it ends before anything was recognised in it"
    return str(error.message).rstrip(".")


def _picture_info(pipeline: Gst.Pipeline) -> PictureInfo:
    """What leaves the decoder; the range of luma is that of the planes it is taken from, where it is taken."""
    decoded = _source_pad(pipeline, "decoder")
    if decoded is None:
        raise SourceError("its decoder has no output")
    info = _video_info(decoded.get_current_caps())
    planes = _source_pad(pipeline, "planes")
    luma = _video_info(planes.get_current_caps()) if planes is not None else info
    return PictureInfo(
        width=info.width,
        height=info.height,
        full_range=int(luma.colorimetry.range) != _RANGE_16_235,
        rate_hz=info.fps_n / info.fps_d if info.fps_n and info.fps_d else None,
        orientation=_orientation(decoded),
    )


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
        raise SourceError("its decoder does not say what its pictures are")
    return info


def _times_s(sample: Gst.Sample) -> tuple[float, float]:
    """The sample's stream time (negative before the file's own zero) and the time its buffer carries, seconds."""
    buffer = sample.get_buffer()
    if buffer is None or buffer.pts == Gst.CLOCK_TIME_NONE:
        raise SourceError("its pictures carry no presentation times; put it into MP4 or Matroska")
    sign, time_ns = sample.get_segment().to_stream_time_full(Gst.Format.TIME, buffer.pts)
    return sign * time_ns / _NS, buffer.pts / _NS


def _pixels(sample: Gst.Sample) -> NDArray[np.uint8]:
    """A copy of the sample's picture, `[height, width]` or `[height, width, 3]`; rows may be padded in the buffer."""
    info, buffer = _video_info(sample.get_caps()), sample.get_buffer()
    if buffer is None:
        raise SourceError("a picture came without its bytes")
    meta = GstVideo.buffer_get_video_meta(buffer)
    offset, stride = (meta.offset[0], meta.stride[0]) if meta is not None else (info.offset[0], info.stride[0])
    size, step = (info.height, info.width), info.finfo.pixel_stride[0]
    shape = size if step == 1 else (*size, step)
    strides = (stride, 1) if step == 1 else (stride, step, 1)
    with _mapped(buffer) as data:
        return np.ndarray(shape, np.uint8, data, offset, strides).copy()


@contextmanager
def _mapped(buffer: Gst.Buffer) -> Iterator[bytes | memoryview]:
    """The buffer's bytes, readable inside the `with` only."""
    mapped, info = buffer.map(Gst.MapFlags.READ)
    if not mapped:
        raise SourceError("a picture's memory cannot be read")
    try:
        yield info.data
    finally:
        buffer.unmap(info)
