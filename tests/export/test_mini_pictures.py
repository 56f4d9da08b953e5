"""The cache of pictures: what the device would feed its tower, decoded once, whatever interrupts the building."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import LabelledClip
from edge_sdk.export.mini import pictures
from edge_sdk.export.mini.pictures import load_pictures
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.patches import patchify

DEMO = Path(__file__).parents[2] / "edge_sdk/bundles/demo/demo/clip.mp4"
PROFILE = find_profile("24f")


def labelled(path: Path) -> LabelledClip:
    return LabelledClip(
        path=path, view="dashcam", crash=True, start_s=1.0, end_s=2.0, pre_crash_s=None, group=path.stem
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    load_pictures([labelled(DEMO)], folder, PROFILE)
    return folder


def decoded() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    with open_source(str(DEMO), CaptureSettings(width=400, height=240, pixels="rgb")) as source:
        for frame in source:
            yield frame.pixels


def test_pictures_are_resized_by_pillow_and_cut_as_the_model_takes_them(made: Path) -> None:
    [found] = load_pictures([labelled(DEMO)], made, PROFILE)
    frames = list(decoded())
    assert found.patches.shape == (len(frames), 60, 588)
    assert len(found.times_s) == len(frames)
    assert found.end_s > found.times_s[-1]
    for index in (0, len(frames) // 2):
        small = Image.fromarray(frames[index]).resize((140, 84), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(found.patches[index], patchify(np.asarray(small)[None], 14)[0])


def test_a_known_clip_is_not_decoded_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Path(shutil.copy(DEMO, tmp_path / "other-name.mp4"))
    monkeypatch.setattr(pictures, "open_source", None)
    first, second = load_pictures([labelled(DEMO), labelled(moved)], made, PROFILE)
    assert first.first == second.first == 0


def test_what_a_killed_run_left_is_taken_up(made: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(made, tmp_path / "broken"))
    [index], [data] = broken.glob("*.jsonl"), broken.glob("*.u8")
    whole, line = data.read_bytes(), index.read_bytes()
    index.write_bytes(line + line[: len(line) // 2])  # a second line was being written
    data.write_bytes(whole + b"half a picture")
    [found] = load_pictures([labelled(DEMO)], broken, PROFILE)
    assert data.read_bytes() == whole
    assert found.patches.tobytes() == whole
