"""H.264 in MP4 through a GStreamer command line; frames go in as raw RGB on its standard input."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO

from edge_sdk.calibration.scenes.textures import Image
from edge_sdk.errors import EdgeError, MissingDependencyError
from edge_sdk.files import atomic_path

# gst-launch does not always exit when its pipeline fails. It may accept no data, or take to finish, this long.
PATIENCE_S = 60.0
# The time it has to exit by itself after a failure, so that it can report the cause.
_LEAVE_S = 5.0


class Encoder:
    """Writes the frames of one clip; see `encoder`."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._path, self._process, self._complaints = path, process, complaints

    def write(self, frame: Image) -> None:
        """Encode one RGB frame. Raises `EdgeError` if the encoder has ended, or stops accepting data."""
        assert self._process.stdin is not None
        pipe, left = self._process.stdin.fileno(), frame.tobytes()
        try:
            while left:
                if not select.select([], [pipe], [], PATIENCE_S)[1]:
                    raise self._failure()
                with suppress(BlockingIOError):
                    left = left[os.write(pipe, left) :]
        except BrokenPipeError as error:
            raise self._failure() from error

    def finish(self, part: Path) -> None:
        """Let the encoder write what it has. Raises `EdgeError` if `part` is then incomplete."""
        try:
            self._process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise self._failure() from error
        if self._process.returncode != 0 or not part.is_file() or part.stat().st_size == 0:
            raise self._failure()

    def _failure(self) -> EdgeError:
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()
        self._complaints.seek(0)
        text = self._complaints.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if "ERROR" in line] or ["no message"]
        return EdgeError(
            f"the H.264 encoder failed on {self._path}: {lines[0].strip()} "
            "(is x264enc installed? gst-inspect-1.0 x264enc)"
        )


@contextmanager
def encoder(path: Path, size: tuple[int, int], fps: float, bitrate_kbps: int, key_interval: int) -> Iterator[Encoder]:
    """Yield an encoder for one clip; the file appears under its name only when it is complete and on the disk."""
    launcher = shutil.which("gst-launch-1.0")
    if launcher is None:
        raise MissingDependencyError(
            "gst-launch-1.0 is not installed; rendered scenes are encoded by GStreamer "
            "(Debian: gstreamer1.0-tools and gstreamer1.0-plugins-good, -bad and -ugly)"
        )
    rate = Fraction(fps).limit_denominator(1001)
    # Complaints go to a file: a pipe that nobody reads while frames are written stops the encoder when it is full.
    with (
        atomic_path(path) as part,
        tempfile.TemporaryFile() as complaints,
        tempfile.TemporaryDirectory() as folder,
    ):
        # gst-launch parses its arguments again as one text, which a quotation mark in a file name would break.
        (Path(folder) / "clip").symlink_to(part.absolute())
        pipeline = [
            "fdsrc", "fd=0", "!", "rawvideoparse", "format=rgb", f"width={size[0]}", f"height={size[1]}",
            f"framerate={rate.numerator}/{rate.denominator}", "!", "videoconvert", "!", "video/x-raw,format=I420", "!",
            "x264enc", f"bitrate={bitrate_kbps}", f"key-int-max={key_interval}", "bframes=0", "threads=1",
            "speed-preset=veryfast", "!", "h264parse", "!", "mp4mux", "!", "filesink", "location=clip",
        ]  # fmt: skip
        process = subprocess.Popen(
            [launcher, "-q", *pipeline],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        )
        try:
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
            made = Encoder(path, process, complaints)
            yield made
            made.finish(part)
        except BaseException:
            process.kill()
            process.communicate()
            raise
