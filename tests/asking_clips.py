"""Small clips of every kind of timing, made by FFmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Moving bars, a counter and noise-free edges: two neighbouring pictures always differ.
PICTURE = "testsrc2=size={width}x{height}:rate={rate}:duration={seconds}"
# The same picture all the time, to the last bit where it is coded without loss.
STILL = "smptebars=size={width}x{height}:rate={rate}:duration={seconds}"
LOSSLESS = ("-qp", "0")


def make_clip(
    path: Path,
    *,
    seconds: float,
    rate: str = "30",
    size: tuple[int, int] = (96, 64),
    before: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    shows: str = PICTURE,
) -> Path:
    """A clip at `path` that `shows` PICTURE or STILL; `before` and `after` are options of its in- and output."""
    width, height = size
    picture = shows.format(width=width, height=height, rate=rate, seconds=seconds)
    coded = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    words = [*before, "-f", "lavfi", "-i", picture, *coded, *after, str(path)]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *words], check=True, timeout=60)
    return path
