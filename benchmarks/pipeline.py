"""Measure which share of a file's decoding speed remains when everything else runs as well.

Both sides decode the same file with the same element and are timed from their first decoded picture to the end of
the file, so that start-up does not count. Decoding alone is a `gst-launch-1.0` process that discards its pictures: a
yardstick that shares no code with this SDK. The whole path is a `Unit`: decoding, rate, scaling, planes, student
(one thread), timeline. Runs alternate, because a machine's speed drifts.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from edge_sdk.benchmarks.measure import Limits
from edge_sdk.benchmarks.scenarios import moving_pictures, run_scenario
from edge_sdk.bundle import Bundle
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.capture.codecs import CODECS
from edge_sdk.errors import MissingDependencyError, SourceError
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.runtime import SessionOptions
from edge_sdk.unit import Unit

LAUNCH = "gst-launch-1.0"
TIMEOUT_S = 600.0


class FileTimes(NamedTuple):
    """Seconds for one file: decoding alone and the whole path, with their ratio."""

    decode_s: float
    whole_s: float

    @property
    def ratio(self) -> float:
        """Share of the decode-only speed that the whole path keeps."""
        return self.decode_s / self.whole_s


def time_file(path: Path, bundle: Bundle) -> FileTimes:
    """Time decoding alone, then the whole path. Raises `SourceError` for a file that cannot be decoded."""
    return FileTimes(decode_only_s(path), whole_path_s(path, bundle))


def decode_only_s(path: Path) -> float:
    """Seconds to decode all of `path` with the decoder that capture uses, less the time to the first picture."""
    decoder = decoder_of(path)
    first_s = _launch_s(path, decoder, "num-buffers=1")
    return max(1e-9, _launch_s(path, decoder) - first_s)


def whole_path_s(path: Path, bundle: Bundle) -> float:
    """Seconds from an opened unit, whose first picture is decoded, to the end of the file."""
    with Unit(path, bundle, threads=1) as unit:
        begin_s = time.perf_counter()
        for _ in unit.steps():
            pass
        unit.finish()
        return time.perf_counter() - begin_s


def decoder_of(path: Path) -> str:
    """Pipeline text of the decoder that capture uses for `path`, with the elements that copy to system memory."""
    with open_source(str(path), CaptureSettings(width=16, height=16)) as source:
        info = source.info
    known = [decoder for codec in CODECS if codec.name == info.codec for decoder in codec.decoders]
    after = next((decoder.after for decoder in known if decoder.element == info.decoder), "")
    return f"{info.decoder} ! {after}" if after else info.decoder


def student_ms(bundle: Bundle, limits: Limits) -> float:
    """Median milliseconds of one frame, picture on the host to scores on the host, one thread."""
    student = student_of(bundle)
    recogniser = Recogniser(bundle, options=SessionOptions(threads=1))
    try:
        samples = run_scenario("single", recogniser, moving_pictures(student.height, student.width), limits, fps=1.0)
    finally:
        recogniser.close()
    return float(sorted(samples.latency)[samples.latency.size // 2]) / 1e6


def _launch_s(path: Path, decoder: str, *sink: str) -> float:
    pipeline = ["filesrc", f"location={path}", "!", "parsebin", "!", *decoder.split(), "!", "fakesink", "sync=false"]
    begin_s = time.perf_counter()
    try:
        done = subprocess.run(
            [LAUNCH, "-q", *pipeline, *sink], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise MissingDependencyError(f"{LAUNCH} is not installed; install GStreamer's command line tools") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{path}: decoding took more than {TIMEOUT_S:g} s") from error
    if done.returncode:
        raise SourceError(f"{path}: {LAUNCH} cannot decode it: {done.stderr.strip()[-200:]}")
    return time.perf_counter() - begin_s
