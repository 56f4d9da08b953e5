"""H.264 in MP4 through a GStreamer command line; frames go in as raw RGB on its standard input."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from edge_sdk.calibration.scenes.textures import Image
from edge_sdk.errors import EdgeError, MissingDependencyError


class Encoder:
    """Writes one clip; the file appears under its name only when it is complete."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float, bitrate_kbps: int, key_interval: int) -> None:
        launcher = shutil.which("gst-launch-1.0")
        if launcher is None:
            raise MissingDependencyError(
                "gst-launch-1.0 is not installed; rendered scenes are encoded by GStreamer "
                "(Debian: gstreamer1.0-tools and gstreamer1.0-plugins-good, -bad and -ugly)"
            )
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        rate = Fraction(fps).limit_denominator(1001)
        pipeline = [
            "fdsrc", "fd=0", "!", "rawvideoparse", "format=rgb", f"width={size[0]}", f"height={size[1]}",
            f"framerate={rate.numerator}/{rate.denominator}", "!", "videoconvert", "!", "video/x-raw,format=I420", "!",
            "x264enc", f"bitrate={bitrate_kbps}", f"key-int-max={key_interval}", "bframes=0", "threads=1",
            "speed-preset=veryfast", "!", "h264parse", "!", "mp4mux", "!", "filesink", f"location={self._part}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [launcher, "-q", *pipeline], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def write(self, frame: Image) -> None:
        """Encode one RGB frame."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame.tobytes())
        except BrokenPipeError as error:
            raise self._failure() from error

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
            self._process.communicate()
            self._part.unlink(missing_ok=True)
            return
        _, complaint = self._process.communicate()
        if self._process.returncode != 0 or not self._part.is_file() or self._part.stat().st_size == 0:
            self._part.unlink(missing_ok=True)
            raise _encoder_error(self._path, complaint)
        self._part.rename(self._path)

    def _failure(self) -> EdgeError:
        _, complaint = self._process.communicate()
        return _encoder_error(self._path, complaint)


def _encoder_error(path: Path, complaint: bytes) -> EdgeError:
    lines = [line for line in complaint.decode(errors="replace").splitlines() if "ERROR" in line] or ["no message"]
    return EdgeError(
        f"the H.264 encoder failed on {path}: {lines[0].strip()} (is x264enc installed? gst-inspect-1.0 x264enc)"
    )
