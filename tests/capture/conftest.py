"""Clips for the capture tests, encoded by GStreamer from pictures whose pixels and times the tests know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.capture.gst.binding import Gst

Luma = NDArray[np.uint8]

BITS = 8
WIDTH, HEIGHT = 320, 192
H264 = "x264enc speed-preset=veryfast quantizer=18 pass=quant key-int-max=20 threads=1 ! h264parse"
# x265enc writes senseless decoding times for B-frames of a clip of few frames
H265 = "x265enc speed-preset=ultrafast qp=18 log-level=none key-int-max=10 option-string=bframes=0 ! h265parse"

# codec and container -> encoder and muxer
CHAINS = {
    "h264.mp4": f"{H264} ! mp4mux",
    "h264.mkv": f"{H264} ! matroskamux",
    "h264.ts": f"{H264} ! mpegtsmux",
    "h264.flv": "x264enc speed-preset=veryfast quantizer=18 pass=quant bframes=0 threads=1 ! h264parse ! flvmux",
    "h264.avi": "x264enc speed-preset=veryfast quantizer=18 pass=quant bframes=0 threads=1 ! h264parse ! avimux",
    "h265.mp4": f"{H265} ! mp4mux",
    "mjpeg.avi": "jpegenc quality=90 ! avimux",
    "mjpeg.mov": "jpegenc quality=90 ! qtmux",
    "mjpeg.mkv": "jpegenc quality=90 ! matroskamux",
    "vp9.webm": "vp9enc deadline=1 cpu-used=8 end-usage=cq cq-level=10 keyframe-max-dist=10 ! webmmux",
}


class Studio:
    """Draws pictures, encodes them, and reads them back."""

    bits = BITS
    chains = CHAINS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def counted(number: int, width: int = WIDTH, height: int = HEIGHT) -> Luma:
        """A picture that shows `number` in binary: eight bars, the lowest bit at the left."""
        bars = np.array([210 if number >> bit & 1 else 40 for bit in range(BITS)], np.uint8)
        columns = np.arange(width) * BITS // width
        return np.tile(bars[columns], (height, 1))

    @staticmethod
    def read(pixels: Luma) -> int:
        """The number that a picture of `counted` shows, without looking at borders of bars."""
        height, width = pixels.shape[:2]
        row = pixels[height // 3 : -height // 3].reshape(-1, width).mean(axis=0)
        centres = (np.arange(BITS) * width + width // 2) // BITS
        return sum(1 << bit for bit, x in enumerate(centres) if row[x - 3 : x + 4].mean() > 128)

    def encode(
        self,
        name: str,
        pictures: Iterable[Luma],
        times_s: Sequence[float],
        chain: str,
        *,
        caps: str = "framerate=30/1",
    ) -> Path:
        """Write `pictures` (luma in 16..235) with presentation times `times_s` into the file `name`."""
        path = self.folder / name
        drawn = list(pictures)
        height, width = drawn[0].shape
        pipeline = Gst.parse_launch(f"appsrc name=in format=time ! {chain} ! filesink name=out")
        size = f"video/x-raw,format=I420,width={width},height={height},colorimetry=bt601,{caps}"
        pipeline.get_by_name("in").set_property("caps", Gst.Caps.from_string(size))
        pipeline.get_by_name("out").set_property("location", str(path))
        pipeline.set_state(Gst.State.PLAYING)
        steps = [*np.diff(times_s), 1 / 30]
        for luma, time_s, step_s in zip(drawn, times_s, steps, strict=True):
            buffer = Gst.Buffer.new_wrapped(_i420(luma))
            buffer.pts = buffer.dts = round(time_s * Gst.SECOND)
            buffer.duration = round(step_s * Gst.SECOND)
            pipeline.get_by_name("in").emit("push-buffer", buffer)
        pipeline.get_by_name("in").emit("end-of-stream")
        _finish(pipeline)
        return path

    def launch(self, name: str, text: str) -> Path:
        """Run pipeline text that ends in a muxer named `out` into the file `name`."""
        path = self.folder / name
        pipeline = Gst.parse_launch(f"{text} ! filesink name=file")
        pipeline.get_by_name("file").set_property("location", str(path))
        pipeline.set_state(Gst.State.PLAYING)
        _finish(pipeline)
        return path


def _i420(luma: Luma) -> bytes:
    """Grey I420 with GStreamer's default strides: rows padded to 4 bytes, an even number of luma rows."""
    height, width = luma.shape
    rows, stride, chroma = height + height % 2, -(-width // 4) * 4, -(-((width + 1) // 2) // 4) * 4
    plane = np.zeros((rows, stride), np.uint8)
    plane[:height, :width] = luma
    return plane.tobytes() + b"\x80" * (chroma * rows)


def _finish(pipeline: Gst.Pipeline) -> None:
    try:
        message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
        assert message is not None, "encoding did not end"
        if message.type == Gst.MessageType.ERROR:
            raise AssertionError(message.parse_error())
    finally:
        pipeline.set_state(Gst.State.NULL)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    Gst.init(None)
    return Studio(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def counted_clip(studio: Studio) -> Callable[[str], Path]:
    """One second at 30 Hz of pictures that show their number, by codec and container; each is made once."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            times_s = [number / 30 for number in range(30)]
            made[kind] = studio.encode(kind, map(studio.counted, range(30)), times_s, studio.chains[kind])
        return made[kind]

    return make
