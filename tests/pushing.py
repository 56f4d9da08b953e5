"""For tests that push pictures into a live source: units to push, and waiting for what comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, Feed, LiveSettings, LiveSource
from edge_sdk.capture.gst.binding import Gst
from edge_sdk.types import Frame
from edge_sdk.unit import Unit

WIDTH, HEIGHT = 322, 190  # rows that GStreamer would pad
CHAINS = {
    "h264": "x264enc tune=zerolatency speed-preset=veryfast quantizer=18 pass=quant key-int-max=10 threads=1"
    " option-string=scenecut=0 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast qp=18 log-level=none key-int-max=10"
    " ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au",
    "mjpeg": "jpegenc quality=90",
}


def encode(
    pictures: Iterable[NDArray[np.uint8]], codec: str, colorimetry: str = "bt601", chain: str = ""
) -> Iterator[tuple[bytes, bool]]:
    """Units of `pictures` (luma), and whether GStreamer takes each for a key unit; `chain` is an encoder of its own."""
    Gst.init(None)
    pipeline = Gst.parse_launch(f"appsrc name=in format=time ! {chain or CHAINS[codec]} ! appsink name=out sync=false")
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    for number, luma in enumerate(pictures):
        height, width = luma.shape
        size = f"video/x-raw,format=I420,width={width},height={height},framerate=30/1,colorimetry={colorimetry}"
        source.set_property("caps", Gst.Caps.from_string(size))
        buffer = Gst.Buffer.new_wrapped(luma.tobytes() + b"\x80" * (width * height // 2))
        buffer.pts, buffer.duration = number * Gst.SECOND // 30, Gst.SECOND // 30
        source.emit("push-buffer", buffer)
    source.emit("end-of-stream")
    while sample := sink.emit("try-pull-sample", 5 * Gst.SECOND):
        buffer = sample.get_buffer()
        yield buffer.extract_dup(0, buffer.get_size()), not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
    pipeline.set_state(Gst.State.NULL)


def wanted(pixels: Any = "luma", **live: Any) -> CaptureSettings:
    return CaptureSettings(width=WIDTH, height=HEIGHT, policy="latest", pixels=pixels, live=LiveSettings(**live))


def next_frame(source: LiveSource, timeout_s: float = 5.0) -> Frame:
    deadline_s = time.monotonic() + timeout_s
    while (frame := source.latest()) is None:
        assert time.monotonic() < deadline_s, f"no frame; {source.state}, {source.changes()}"
        time.sleep(0.002)
    return frame


def until(happened: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def taken(feed: Feed, data: Any) -> float:
    """Push until the source takes it, as it does once it plays; returns the stamp."""
    stamps: list[float] = []

    def push() -> bool:
        stamps.append(time.monotonic())
        return feed.push(data, stamps[-1])

    until(push)
    return stamps[-1]


@contextmanager
def moving_camera(picture: NDArray[np.uint8], rate_hz: float = 10.0) -> Iterator[tuple[Feed, threading.Event]]:
    """A feed `push://front` of `picture` `[h, w, 3]` with a bar that grows, in real time until the event is set."""
    height, width, _ = picture.shape
    feed, dead = Feed("rgb", width=width, height=height, rate_hz=rate_hz, name="front"), threading.Event()

    def play() -> None:
        number = 0
        while not dead.wait(1 / rate_hz):
            shown = picture.copy()
            shown[:, : number % width] = 200
            feed.push(shown)
            number += 1

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield feed, dead
    finally:
        dead.set()
        thread.join(timeout=5)


@contextmanager
def stopping(unit: Unit) -> Iterator[None]:
    """For a thread beside the one that reads `unit`: what fails inside stops it, or its reader would wait for ever."""
    try:
        yield
    except BaseException:
        unit.stop()
        raise


def scored(unit: Unit) -> None:
    """Wait until the first source is live and has a score, before which no event can be triggered.

    It is told to be live a moment after its first picture, which may have been scored by then.
    """
    stream = unit.streams[0]
    until(lambda: stream.feeder.state == "live" and stream.timeline.last_s is not None, 30.0)
