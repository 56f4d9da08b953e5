"""Make the video that the capture benchmark reads: 1080p30, H.264 High, 8 Mb/s, 60 s by default.

    python -m edge_sdk.benchmarks.make_clip clip.mp4 [--seconds 60]

Rate control pads or starves any picture to reach its rate, so the picture must really need the bits: moving bars,
turning spokes and faint noise do, and produce motion vectors, residuals and B-frames like a camera's. The content is
synthetic, and the same versions of GStreamer and x264 write the same bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.console import run_script
from edge_sdk.errors import ConfigError, EdgeError, MissingDependencyError, SourceError
from edge_sdk.files import atomic_path

LAUNCH = "gst-launch-1.0"
WIDTH, HEIGHT, RATE_HZ, KBIT_S = 1920, 1080, 30, 8000
PACKAGES = (
    "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
    "gstreamer1.0-plugins-ugly"
)
_RAW = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={RATE_HZ}/1"
_ENCODER = (
    f"x264enc bitrate={KBIT_S} pass=cbr vbv-buf-capacity=1000 speed-preset=superfast key-int-max=60 bframes=3 ref=2 "
    "dct8x8=true threads=2"
)


def clip_text(seconds: float) -> str:
    """Pipeline text that encodes `seconds` of moving picture; the file is set on the element `out`."""

    def layer(pad: int, pattern: str) -> str:
        source = f"videotestsrc num-buffers={round(seconds * RATE_HZ)} pattern={pattern}"
        return f"{source} ! {_RAW} ! queue ! mix.sink_{pad}"

    mixed = f"compositor name=mix sink_1::alpha=0.35 sink_2::alpha=0.12 ! {_RAW} ! queue"
    written = "video/x-h264,profile=high ! h264parse ! mp4mux ! filesink name=out"
    layers = (layer(0, "smpte horizontal-speed=7"), layer(1, "spokes"), layer(2, "snow"))
    return " ".join((f"{mixed} ! {_ENCODER} ! {written}", *layers))


def make_clip(path: Path, seconds: float = 60.0) -> Path:
    """Write the clip to `path`, whole or not at all, and return `path`. Takes about half the clip's length.

    Raises `ConfigError` for a length out of range, `MissingDependencyError` without GStreamer's tools, and
    `SourceError` with their messages when they cannot encode.
    """
    if not 0.1 <= seconds <= 3600:
        raise ConfigError(f"seconds must be 0.1..3600, found {seconds}")
    words = clip_text(seconds).split()
    with atomic_path(path) as stage:
        words.insert(words.index("name=out") + 1, f"location={stage}")
        try:
            done = subprocess.run([LAUNCH, "-q", *words], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise MissingDependencyError(f"{LAUNCH} is missing; run: sudo apt-get install -y {PACKAGES}") from error
        if done.returncode != 0:
            raise SourceError(f"{LAUNCH} could not make {path}: {done.stderr.strip()[-500:]}")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make-clip", description="make the video of the capture benchmark")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    try:
        make_clip(options.path, options.seconds)
    except EdgeError as error:
        print(f"make-clip: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    run_script(main)
