"""Live branches of this machine, played by GStreamer: nothing is held back, nothing but pictures is dropped.

Units are fed one by one, each after the picture of the one before has come out: that needs no clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import cast

import pytest

from edge_sdk.capture import gst
from edge_sdk.capture.codecs import CODECS, Codec
from edge_sdk.capture.gst.binding import NS, Gst
from edge_sdk.capture.gst.launch import branch as made_branch
from edge_sdk.capture.gst.launch import launch
from edge_sdk.capture.gst.samples import pull
from edge_sdk.capture.live_pipelines import LivePlan, branch_text
from edge_sdk.capture.settings import CaptureSettings, HistorySettings, LiveSettings, Pixels
from edge_sdk.capture.uri import LiveUri, PushSource, RtspSource

CODEC = {codec.name: codec for codec in CODECS}
RTSP = RtspSource(location="rtsp://nowhere")
RAW = PushSource(name="host", format="nv12", width=320, height=180)
HISTORY = HistorySettings(width=91, height=49, rate_hz=10.0)
WAIT_S = 5.0
probe = import_module("edge_sdk.capture.gst.probe")  # its function `probe` hides the module of that name

ENCODERS = {
    "h264": "openh264enc gop-size=5 ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
    "h264 sliced": "x264enc tune=zerolatency key-int-max=5 threads=2 ! h264parse ! "
    "video/x-h264,stream-format=byte-stream,alignment=au",
    "h265": "x265enc tune=zerolatency key-int-max=5 log-level=none ! h265parse ! "
    "video/x-h265,stream-format=byte-stream,alignment=au",
    "mjpeg": "jpegenc",
    "raw": "identity",
}
PAYLOADERS = {"h264": "rtph264pay", "h265": "rtph265pay", "mjpeg": "rtpjpegpay"}


def made(encoder: str, units: int = 12, rate: str = "30/1") -> list[Gst.Sample]:
    """Units of a moving picture."""
    pattern = f"videotestsrc pattern=ball num-buffers={units}"
    caps = f"video/x-raw,format=NV12,width=320,height=180,framerate={rate}"
    pipeline = launch(f"{pattern} ! {caps} ! videoconvert ! {encoder} ! appsink name=s sync=false", None)
    sink = cast(Gst.Element, pipeline.get_by_name("s"))
    pipeline.set_state(Gst.State.PLAYING)
    samples = []
    while sample := pull(sink, WAIT_S):
        samples.append(sample)
    pipeline.set_state(Gst.State.NULL)
    assert len(samples) == units
    return samples


class Branch:
    """A branch that is fed by hand."""

    def __init__(self, pipeline: Gst.Pipeline) -> None:
        self.pipeline = pipeline
        self.source = cast(Gst.Element, pipeline.get_by_name("source"))

    def push(self, sample: Gst.Sample) -> None:
        self.source.set_property("caps", sample.get_caps())
        buffer = sample.get_buffer()
        copy = buffer.copy_deep() if buffer is not None else None
        assert copy is not None
        self.source.emit("push-buffer", copy)

    def pull(self, name: str, wait_s: float = WAIT_S) -> Gst.Sample | None:
        return pull(cast(Gst.Element, self.pipeline.get_by_name(name)), wait_s)

    def all_of(self, name: str) -> list[Gst.Sample]:
        found = []
        while sample := self.pull(name, 0.0):
            found.append(sample)
        return found

    def counted(self, name: str) -> int:
        element = self.pipeline.get_by_name(name)
        assert element is not None
        return int(element.get_property("stats").get_uint64("num-buffers")[1])


@contextmanager
def playing(
    codec: Codec | None,
    live: LiveSettings,
    *,
    source: LiveUri = RTSP,
    pixels: Pixels = "luma",
    decoder: str | None = None,
    before: str = "",
) -> Iterator[Branch]:
    settings = CaptureSettings(width=160, height=96, policy="latest", pixels=pixels, decoder=decoder, live=live)
    plan = LivePlan(source=source, settings=settings, features=gst.features(), scaler=gst.scaler())
    head = f"appsrc name=source is-live=true format=time ! {before}"
    pipeline = launch(head + branch_text(plan, codec), None)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        yield Branch(pipeline)
    finally:
        pipeline.set_state(Gst.State.NULL)


@pytest.mark.parametrize(
    ("kind", "decoder"),
    [("h264", "avdec_h264"), ("h264 sliced", "avdec_h264"), ("h264", "openh264dec"), ("h265", "avdec_h265"),
     ("mjpeg", "jpegdec"), ("mjpeg", "avdec_mjpeg")],
)  # fmt: skip
@pytest.mark.parametrize("over_rtp", [False, True])
def test_each_unit_gives_its_picture_before_the_next_comes(kind: str, decoder: str, over_rtp: bool) -> None:
    codec = kind.split()[0]
    source = RTSP if over_rtp else PushSource(name="host", format=codec)
    before = f"{PAYLOADERS[codec]} ! " if over_rtp else ""
    live = LiveSettings(pre_roll_s=1.0)
    with playing(CODEC[codec], live, source=source, decoder=decoder, before=before) as branch:
        for number, unit in enumerate(made(ENCODERS[kind]), 1):
            branch.push(unit)
            assert branch.pull("frames") is not None
            assert branch.pull("units") is not None
            assert (branch.counted("received"), branch.counted("decoded")) == (number, number)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_every_key_unit_carries_its_parameter_sets(codec: str) -> None:
    """The payloader sends none in the stream: they stand in the session description only."""
    keys, sets = ({5}, {7, 8}) if codec == "h264" else ({19, 20, 21}, {32, 33, 34})
    with playing(CODEC[codec], LiveSettings(pre_roll_s=1.0), before=f"{PAYLOADERS[codec]} ! ") as branch:
        found = []
        for unit in made(ENCODERS[codec]):
            branch.push(unit)
            sample = branch.pull("units")
            assert sample is not None
            found.append(nal_types(sample, codec))
    assert [number for number, types in enumerate(found) if types & keys] == [0, 5, 10]
    assert all(sets <= types for types in found if types & keys)


def nal_types(sample: Gst.Sample, codec: str) -> set[int]:
    """ITU-T H.264 7.3.1 and H.265 7.3.1.2: the type follows the start code."""
    buffer = sample.get_buffer()
    assert buffer is not None
    heads = re.findall(rb"\x00\x00\x01(.)", buffer.extract_dup(0, buffer.get_size()), re.DOTALL)
    return {head[0] & 31 if codec == "h264" else head[0] >> 1 & 63 for head in heads}


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg", None])
def test_a_branch_that_joins_plays_at_once_and_so_does_the_rest(codec: str | None) -> None:
    """One that waited for its first picture would take the pipeline back to PAUSED with it, and could not go down."""
    live = LiveSettings(pre_roll_s=1.0, history=HISTORY)
    source = PushSource(name="host", format=codec) if codec else RAW
    settings = CaptureSettings(width=160, height=96, policy="latest", live=live)
    plan = LivePlan(source=source, settings=settings, features=gst.features(), scaler=gst.scaler())
    pipeline = launch("fakesrc is-live=true datarate=100 ! fakesink sync=false async=false", None)
    pipeline.set_state(Gst.State.PLAYING)
    assert pipeline.get_state(NS).state == Gst.State.PLAYING
    joined = made_branch(branch_text(plan, CODEC[codec] if codec else None))
    pipeline.add(joined)
    joined.sync_state_with_parent()
    states = [element.get_state(0).state for element in (joined, pipeline)]
    pipeline.set_state(Gst.State.NULL)
    assert states == [Gst.State.PLAYING, Gst.State.PLAYING]


@pytest.mark.parametrize("pixels", ["luma", "rgb"])
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg", None])
def test_all_outputs_at_once(codec: str | None, pixels: Pixels) -> None:
    """Raw pictures are encoded on the way; that sinks are full does not keep the end of the stream from being told."""
    live = LiveSettings(pre_roll_s=1.0, history=HISTORY)
    source = PushSource(name="host", format=codec) if codec else RAW
    with playing(CODEC[codec] if codec else None, live, source=source, pixels=pixels) as branch:
        for unit in made(ENCODERS[codec or "raw"]):
            branch.push(unit)
            frame = branch.pull("frames")
            assert frame is not None
            assert size_of(frame) == ("GRAY8" if pixels == "luma" else "RGB", 160, 96)
            assert branch.pull("units") is not None
        branch.source.emit("end-of-stream")
        bus = branch.pipeline.get_bus()
        message = bus.timed_pop_filtered(round(WAIT_S * NS), Gst.MessageType.EOS | Gst.MessageType.ERROR)
        assert message is not None
        assert message.type == Gst.MessageType.EOS
        assert {size_of(each) for each in branch.all_of("history")} == {("RGB", 91, 49)}


def size_of(sample: Gst.Sample) -> tuple[str, int, int]:
    caps = sample.get_caps()
    assert caps is not None
    shape = caps.get_structure(0)
    return shape.get_string("format") or "", shape.get_int("width")[1], shape.get_int("height")[1]


@pytest.mark.parametrize(
    ("rate", "declared", "times_ms"),
    [
        ("30/1", "30/1", range(0, 2000, 100)),
        ("30/1", "0/1", range(0, 2000, 100)),
        ("30/1", "5/1", range(0, 2000, 100)),
        ("5/1", "5/1", range(0, 12000, 200)),
        ("5/1", "30/1", range(0, 12000, 200)),
    ],
)
def test_the_history_goes_by_times_and_not_by_the_declared_rate(rate: str, declared: str, times_ms: range) -> None:
    """Most cameras declare a rate that is not theirs, or none (0/1)."""
    before = f"capssetter caps=video/x-raw,framerate={declared} ! "
    with playing(None, LiveSettings(history=HISTORY), source=RAW, before=before) as branch:
        found, counter = [], branch.pipeline.get_by_name("history-rate")
        assert counter is not None
        for number, unit in enumerate(made("identity", units=60, rate=rate), 1):
            branch.push(unit)
            wait_for(lambda number=number: counter.get_property("in") >= number)  # type: ignore[misc]
        while sample := branch.pull("history", 0.2):
            found.append(sample)
    assert [round(pts_s(each) * 1e3) for each in found] == pytest.approx([*times_ms], abs=1)


def wait_for(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def pts_s(sample: Gst.Sample) -> float:
    buffer = sample.get_buffer()
    assert buffer is not None
    return buffer.pts / NS


def test_a_slow_consumer_finds_the_newest_picture() -> None:
    units = made("identity", units=40)
    with playing(None, LiveSettings(), source=RAW) as branch:
        for unit in units:
            branch.push(unit)
        wait_for(lambda: branch.counted("decoded") == len(units))
        time.sleep(0.1)
        found = branch.all_of("frames")
    assert [pts_s(each) for each in found] == [pts_s(units[-1])]


@pytest.mark.parametrize(("step_ms", "most_mb"), [(0, 33.0), (33, 33.0), (200, 6.0)])
def test_what_waits_for_a_decoder_is_bounded_by_time_and_by_bytes(step_ms: int, most_mb: float) -> None:
    """Units of 1 MB while nothing is decoded. By time alone a camera whose stamps stand still would fill the memory."""
    unit = made("jpegenc", units=1)[0]
    jpeg, caps = unit.get_buffer(), unit.get_caps()
    assert jpeg is not None
    data = jpeg.extract_dup(0, jpeg.get_size()).replace(b"\xff\xd9", b"").ljust(1_000_000, b"\x2a") + b"\xff\xd9"
    with playing(CODEC["mjpeg"], LiveSettings(), source=PushSource(name="host", format="mjpeg")) as branch:
        decoder = branch.pipeline.get_by_name("decoder")
        pad = decoder.get_static_pad("sink") if decoder is not None else None
        queue = pad.get_peer().get_parent_element() if pad is not None else None
        assert pad is not None
        assert queue is not None
        pad.add_probe(Gst.PadProbeType.BLOCK | Gst.PadProbeType.BUFFER, lambda *_: Gst.PadProbeReturn.OK)
        branch.source.set_property("caps", caps)
        for number in range(60):
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = number * step_ms * 1_000_000
            branch.source.emit("push-buffer", buffer)
        found: list[int] = []
        deadline_s = time.monotonic() + WAIT_S
        while len(found) < 3 or found[-1] > found[-3]:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
            found.append(int(queue.get_property("current-level-bytes")))
    assert most_mb - 3 <= found[-1] / 1e6 <= most_mb + 0.1


def test_what_is_found_here_is_what_gstreamer_has() -> None:
    found = gst.features()
    registry = Gst.Registry.get()
    for name in found.elements | found.broken:
        assert registry.lookup_feature(name) is not None
    assert {"avdec_h264", "jpegdec"} <= found.elements
    for name in found.properties:
        element = Gst.ElementFactory.make(name.split(".")[0])
        assert element is not None
        assert element.find_property(name.split(".")[1]) is not None or "/" in name


@pytest.mark.skipif(Path("/dev/video0").exists(), reason="there is a camera, so v4l2src starts")
def test_an_element_without_its_device_is_broken_and_one_that_is_not_there_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "STARTED", frozenset({"v4l2src", "avdec_h264", "nonesuchdec"}))
    found = probe.features.__wrapped__()
    assert found.broken == {"v4l2src"}
    assert "avdec_h264" in found.elements
    assert not found.has("nonesuchdec")
    assert gst.camera_media("/dev/video0") == frozenset()


def test_the_media_of_a_source_are_those_that_it_gives_now() -> None:
    source = Gst.ElementFactory.make("capsfilter")
    assert source is not None
    source.set_property("caps", Gst.Caps.from_string("image/jpeg,width=640; image/jpeg,width=320; video/x-h264"))
    assert probe._media(source) == {"image/jpeg", "video/x-h264"}
    source.set_property("caps", Gst.Caps.new_any())
    assert probe._media(source) == frozenset()


@pytest.mark.parametrize(
    ("text", "plays"),
    [
        ("videotestsrc num-buffers=2 ! jpegenc ! jpegparse ! avdec_mjpeg ! fakesink", True),
        ("videotestsrc num-buffers=2 ! nonesuchdec ! fakesink", False),
        ("filesrc location=/nonexistent ! fakesink", False),
        ("videotestsrc num-buffers=2 ! video/x-raw,format=NV12 ! jpegparse ! fakesink", False),
    ],
)
def test_a_trial_tells_whether_a_pipeline_plays(text: str, plays: bool) -> None:
    assert probe._plays(text) is plays
