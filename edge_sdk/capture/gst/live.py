"""A playing live source: its newest picture can be taken at any moment, without waiting.

The pipeline runs on the monotonic system clock, so base time plus running time is `time.monotonic()`. Its sinks do not
wait for that clock: a picture is available as soon as it is scaled. While the pipeline plays, no Python runs on
GStreamer's threads, except a check of the size of its coded pictures (`sizes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from edge_sdk.capture.codecs import CODECS, Codec
from edge_sdk.capture.feed import Feed
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.capture.gst.faults import element_of, fault_of
from edge_sdk.capture.gst.feed import AppInlet
from edge_sdk.capture.gst.launch import halt, launch, reason
from edge_sdk.capture.gst.probe import camera_media
from edge_sdk.capture.gst.rtsp import RtspOutputs
from edge_sdk.capture.gst.samples import captured_s, encoded, picture_info, pixels, pull, sender_utc_s
from edge_sdk.capture.live_pipelines import LivePlan, branch_text, camera_format, source_text
from edge_sdk.capture.luma import widened
from edge_sdk.capture.player import EncodedUnit, Fault, LivePicture, PictureInfo
from edge_sdk.capture.uri import PushSource, RtspSource, V4l2Source, redact

_TOLD = Gst.MessageType.ERROR | Gst.MessageType.EOS | Gst.MessageType.WARNING


class GstLivePlayer:
    """A playing live pipeline; implements `player.LivePlayer`.

    `picture` and `arrived` may run on another thread at the same time as `close`.
    """

    def __init__(self, plan: LivePlan, feed: Feed | None) -> None:
        self._plan = _settled(plan)
        self._feed = feed
        self._pipeline: Gst.Pipeline | None = launch(_text(self._plan), None)
        self._elements: dict[str, Gst.Element] = {}
        self._outputs: RtspOutputs | None = None
        self._base_ns = 0
        self._info: PictureInfo | None = None
        self._caps: Gst.Caps | None = None
        self._fault: Fault | None = None
        self._warnings: list[str] = []
        self._eos = False
        try:
            self._start(self._pipeline)
        except BaseException:
            self.close()
            raise

    def _start(self, pipeline: Gst.Pipeline) -> None:
        """Play. A live source's answer to that proves nothing: it works only when pictures come."""
        source, clock = cast(Gst.Element, pipeline.get_by_name("source")), Gst.SystemClock.obtain()
        pipeline.use_clock(clock)
        # Pushed pictures carry absolute times, and may have been taken before the pipeline starts.
        self._base_ns = 0 if self._feed is not None else clock.get_time()
        pipeline.set_start_time(Gst.CLOCK_TIME_NONE)
        pipeline.set_base_time(self._base_ns)
        if isinstance(self._plan.source, RtspSource):
            self._outputs = RtspOutputs(source, self._plan)
        if isinstance(self._plan.source, V4l2Source):
            source.set_property("device", self._plan.source.device)
        inlet = AppInlet(source, self._plan.source) if isinstance(self._plan.source, PushSource) else None
        if pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
            self._read_bus()
            self._fault = self._fault or Fault("its pipeline does not start")
        if self._feed is not None and inlet is not None:
            self._feed.attach(inlet)

    def picture(self) -> LivePicture | None:
        """The newest picture that has not been given yet, None if there is none."""
        sample = next(self._samples("frames"), None)
        if sample is None:
            return None
        self._look()
        picture = self._picture(sample)
        studio = self._plan.settings.pixels == "luma" and self._info is not None and not self._info.full_range
        return picture._replace(pixels=widened(picture.pixels)) if studio else picture

    def history(self) -> list[LivePicture]:
        """RGB pictures of the history branch since the last call, oldest first."""
        wanted = self._plan.settings.live.history is not None
        return [self._picture(sample) for sample in self._samples("history")] if wanted else []

    def units(self) -> list[EncodedUnit]:
        """Encoded units since the last call, oldest first."""
        found = self._samples("units") if self._plan.settings.live.pre_roll_s else ()
        units = ((encoded(sample), captured_s(sample, self._base_ns)) for sample in found)
        return [EncodedUnit(data, taken_s, key) for (data, key), taken_s in units]

    def arrived(self) -> tuple[int, int]:
        """Encoded units received and pictures decoded so far; 0 after `close`."""
        return self._count("received"), self._count("decoded")

    def info(self) -> PictureInfo | None:
        """Properties of the decoded pictures; None before the first picture."""
        return self._info

    def codec(self) -> str:
        """Name of the stream's codec, `raw` if it is not encoded, empty while it is not known."""
        if self._outputs is not None:
            return self._outputs.codec
        codec = _codec(self._plan)
        return codec.name if codec is not None else "raw"

    def decoder(self) -> str:
        """Name of the decoding element, empty while it is not known and for streams that are not encoded."""
        element = self._element("decoder")
        factory = element.get_factory() if element is not None else None
        name = (factory.get_name() or "") if factory is not None else ""
        return name if name != "identity" else ""

    def fault(self) -> Fault | None:
        """What has stopped the pipeline: an error, or the end of a stream that should not end."""
        self._read_bus()
        if self._fault is None and self._outputs is not None:
            self._fault = self._outputs.fault
        return self._fault

    def ended(self) -> bool:
        """Whether the host program has ended its feed and every picture of it has been given."""
        self._read_bus()
        names = ("frames", "history", "units")
        sinks = [sink for name in names if (sink := self._element(name)) is not None]
        return self._eos and all(sink.get_property("eos") for sink in sinks)

    def warnings(self) -> list[str]:
        """Warnings of elements since the last call, each once, without credentials."""
        warnings, self._warnings = self._warnings, []
        return list(dict.fromkeys(warnings))

    def close(self) -> None:
        """Take the pipeline down and release it."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        if self._feed is not None:
            self._feed.detach()
        halt(pipeline)
        self._elements.clear()

    def _element(self, name: str) -> Gst.Element | None:
        """The element of that name, None before it exists: those of an RTSP source come with the server's answer."""
        pipeline = self._pipeline
        if pipeline is None:
            return None
        element = self._elements.get(name) or pipeline.get_by_name(name)
        if element is not None:
            self._elements[name] = element
        return element

    def _samples(self, name: str) -> Iterator[Gst.Sample]:
        """The samples at the sink of that name, at most as many as it holds: more may come while they are read."""
        sink = self._element(name)
        if sink is None:
            return
        for _ in range(int(sink.get_property("max-buffers"))):
            sample = pull(sink, 0.0)
            if sample is None:
                return
            yield sample

    def _picture(self, sample: Gst.Sample) -> LivePicture:
        return LivePicture(pixels(sample), captured_s(sample, self._base_ns), sender_utc_s(sample))

    def _look(self) -> None:
        """Update the properties of the pictures at the first picture, and when they change in mid-stream."""
        element = self._element("planes") or self._element("decoded")
        pad = element.get_static_pad("src") if element is not None else None
        caps = pad.get_current_caps() if pad is not None else None
        pipeline = self._pipeline
        if pipeline is not None and caps is not None and not (self._caps is not None and self._caps.is_equal(caps)):
            self._caps, self._info = caps, picture_info(pipeline)

    def _count(self, name: str) -> int:
        element = self._element(name)
        return int(element.get_property("stats").get_uint64("num-buffers")[1]) if element is not None else 0

    def _read_bus(self) -> None:
        """Record the first error or end on the bus, and all warnings."""
        bus = self._pipeline.get_bus() if self._pipeline is not None else None
        while bus is not None and (message := bus.pop_filtered(_TOLD)):
            if message.type == Gst.MessageType.WARNING:
                self._warnings.append(f"{element_of(message)}: {redact(reason(message))}")
            elif message.type == Gst.MessageType.EOS and isinstance(self._plan.source, PushSource):
                self._eos = self._fault is None  # after an error, the end comes from the failed element
            else:
                self._fault = self._fault or fault_of(message, self._plan.source, self.decoder())


def play_live(plan: LivePlan, feed: Feed | None) -> GstLivePlayer:
    """Start the pipeline of `plan`, with the pictures of `feed` if there is one; does not wait.

    Raises `MissingDependencyError` for a missing element.
    """
    return GstLivePlayer(plan, feed)


def check_live(plan: LivePlan) -> None:
    """Build as much of the pipeline of `plan` as is known before it plays, and release it.

    Raises `MissingDependencyError` for a missing element, `ConfigError` for an unusable decoder.
    """
    if isinstance(plan.source, V4l2Source) and plan.source.format is None:
        # Whether units need an encoder is known only when the camera has reported its format.
        live = msgspec.structs.replace(plan.settings.live, pre_roll_s=0.0)
        plan = msgspec.structs.replace(plan, settings=msgspec.structs.replace(plan.settings, live=live))
    launch(_text(plan), None)


def _settled(plan: LivePlan) -> LivePlan:
    """The plan with the camera's format if none was asked for; asked at each start, as cameras may be exchanged."""
    source = plan.source
    if not isinstance(source, V4l2Source) or source.format is not None:
        return plan
    settled = msgspec.structs.replace(source, format=camera_format(camera_media(source.device)))
    return msgspec.structs.replace(plan, source=settled)


def _text(plan: LivePlan) -> str:
    """Pipeline text, as far as it is known before the source has answered."""
    if isinstance(plan.source, RtspSource):
        return source_text(plan)
    return f"{source_text(plan)} ! {branch_text(plan, _codec(plan))}"


def _codec(plan: LivePlan) -> Codec | None:
    """The codec of a camera or feed; None for raw pictures."""
    name = plan.source.format if isinstance(plan.source, V4l2Source | PushSource) else None
    return next((codec for codec in CODECS if codec.name == name), None)
