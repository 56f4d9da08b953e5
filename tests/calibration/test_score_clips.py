"""What is fitted must be scores of the student's own rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scene_needs import need_encoding

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.calibration.operating_points import score_clips
from edge_sdk.calibration.scenes.encode import encoder
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError

Make = Callable[[str, float, bool], LabelledClip]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a clip of moving noise with so many pictures a second."""
    need_encoding()
    rng = np.random.default_rng(0)

    def write(name: str, fps: float, crash: bool) -> LabelledClip:
        path = tmp_path / f"{name}.mp4"
        with encoder(path, (320, 192), fps, 400, 30) as film:
            for _ in range(int(2 * fps)):
                film.write(rng.integers(0, 256, (192, 320, 3), np.uint8))
        start_s = 1.0 if crash else None
        return LabelledClip(
            path=path, view="dashcam", crash=crash, start_s=start_s, end_s=start_s, pre_crash_s=None, group=name
        )

    return write


def test_slow_clips_are_left_out_and_named(make: Make) -> None:
    one, other, slow = make("crash", 10.0, True), make("drive", 10.0, False), make("slow", 5.0, False)
    clips = [replace(one, group=f"{n}") for n in range(10)] + [replace(other, group=f"{n + 10}") for n in range(10)]
    found, left_out = score_clips(open_bundle(default_bundle()), [*clips, slow])
    assert [item.clip for item in found] == clips
    assert all(item.scores for item in found)
    assert left_out == ("slow.mp4",)


def test_too_few_clips_that_are_not_slow_are_an_error(make: Make) -> None:
    with pytest.raises(ConfigError, match="at least 20 clips, crashes and others; found 1 clips, 1 crashes"):
        score_clips(open_bundle(default_bundle()), [make("crash", 10.0, True), make("slow", 5.0, False)])
