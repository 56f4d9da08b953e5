"""What the baselines know about a file: its size and shape, and the motion of a small luma picture.

The pictures are 160x96 at 10 Hz, divided into blocks of 16x16 pixels. A difference is the mean absolute change of luma
since the previous frame, 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import SourceError

Floats = NDArray[np.float64]

WIDTH, HEIGHT, RATE_HZ, BLOCK = 160, 96, 10.0, 16
# Luma levels added to a block's standard deviation, so that noise in a still block does not look like an event.
FLOOR_LEVELS = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """The mean difference of the picture, `whole [n]`, and of each block, `blocks [n, 60]`, at `times_s [n]`.

    Row 0 is zero. `width` and `height` are those of the file's own pictures.
    """

    times_s: Floats
    whole: Floats
    blocks: Floats
    width: int
    height: int
    size_bytes: int


def read_motion(path: Path) -> Motion:
    """Measure the motion of the clip at `path`. Raises `SourceError` if nothing can be decoded."""
    state = path.stat()
    return _read_motion(path, state.st_mtime_ns, state.st_size)


def z_scores_so_far(values: Floats) -> Floats:
    """Score how unusual each row of `values [n, k]` is, given earlier rows from row 1 on: float64 `[n, k]`, causal."""
    scores = np.zeros_like(values)
    known = values[1:-1]
    count = np.arange(1, len(known) + 1, dtype=np.float64)[:, None]
    mean = np.cumsum(known, axis=0) / count
    deviation = np.sqrt(np.maximum(np.cumsum(known**2, axis=0) / count - mean**2, 0.0)) + FLOOR_LEVELS
    scores[2:] = (values[2:] - mean) / deviation
    return scores


def z_scores(values: Floats) -> Floats:
    """Score how unusual each row of `values [n, k]` is within the whole clip: float64 `[n, k]`, not causal."""
    scores: Floats = (values - values.mean(axis=0)) / (values.std(axis=0) + FLOOR_LEVELS)
    return scores


@lru_cache(maxsize=1)  # all baselines read the same clip, one after the other
def _read_motion(path: Path, _changed_ns: int, size_bytes: int) -> Motion:
    times: list[float] = []
    rows: list[Floats] = []
    before: NDArray[np.int16] | None = None
    with open_source(str(path), CaptureSettings(width=WIDTH, height=HEIGHT, rate_hz=RATE_HZ, pixels="luma")) as source:
        info = source.info
        for frame in source:
            now = frame.pixels.astype(np.int16)
            rows.append(_block_change(now if before is None else before, now))
            times.append(frame.time_s)
            before = now
    if not rows:
        raise SourceError(f"{path} holds no frame")
    blocks = np.stack(rows)
    return Motion(
        times_s=np.array(times),
        whole=blocks.mean(axis=1),
        blocks=blocks,
        width=info.width,
        height=info.height,
        size_bytes=size_bytes,
    )


def _block_change(before: NDArray[np.int16], now: NDArray[np.int16]) -> Floats:
    change = np.abs(now - before).reshape(HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK)
    blocks: Floats = change.mean(axis=(1, 3), dtype=np.float64).ravel()
    return blocks
