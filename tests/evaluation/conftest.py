"""Small footage whose every picture tells its own number, and clips made of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.clips import LabelledClip, View
from edge_sdk.evaluation.detail import Detail, encode_footage, picture_bytes
from edge_sdk.evaluation.samples import Footage

SIDE = 130
DETAIL = Detail()


def pictures(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """I420 pictures, colourless, of luma `[frames, SIDE, SIDE]`."""
    frames = np.full((len(luma), picture_bytes(SIDE, SIDE)), 128, np.uint8)
    stride = (SIDE + 3) // 4 * 4
    frames[:, : stride * SIDE].reshape(-1, SIDE, stride)[:, :, :SIDE] = luma
    return frames


def scene(frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """A still, smooth picture, repeated."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (10, 10)).astype(np.uint8)
    return np.repeat(np.kron(coarse, np.ones((13, 13), np.uint8))[None], frames, axis=0)


def labelled(
    path: Path,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    view: View = "dashcam",
    group: str | None = None,
) -> LabelledClip:
    return LabelledClip(
        path=path,
        view=view,
        crash=start_s is not None,
        start_s=start_s,
        end_s=end_s,
        pre_crash_s=None,
        group=group or path.stem,
    )


def numbered(clip: LabelledClip, frames: int, tag: int) -> Footage:
    """Footage whose picture k holds `tag` in byte 0 and k in byte 1."""
    data = np.full((frames, picture_bytes(SIDE, SIDE)), 77, np.uint8)
    data[:, 0], data[:, 1] = tag, np.arange(frames)
    return Footage(clip=clip, set="test", frames=data, decoded=frames, detail=DETAIL)


def write_clip(path: Path, luma: NDArray[np.uint8]) -> Path:
    """Write luma pictures `[frames, SIDE, SIDE]` at 10 Hz as a video file."""
    encode_footage(pictures(luma), path, DETAIL)
    return path


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The functions above, for tests, which cannot import this file."""
    return SimpleNamespace(
        pictures=pictures, scene=scene, labelled=labelled, numbered=numbered, write_clip=write_clip, detail=DETAIL
    )
