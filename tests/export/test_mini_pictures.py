"""The cache of pictures, whatever interrupts its building, and views of them: what the device would feed its tower."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.mini import pictures
from edge_sdk.export.mini.pictures import Eye, View, load_pictures
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.patches import patchify

DEMO = Path(__file__).parents[2] / "edge_sdk/bundles/demo/demo/clip.mp4"
PROFILE = find_profile("24f")
Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def labelled(path: Path) -> LabelledClip:
    return LabelledClip(
        path=path, view="dashcam", crash=True, start_s=1.0, end_s=2.0, pre_crash_s=None, group=path.stem
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    load_pictures([labelled(DEMO)], folder)
    return folder


def decoded() -> Iterator[Picture]:
    with open_source(str(DEMO), CaptureSettings(width=400, height=240, pixels="rgb")) as source:
        for frame in source:
            yield frame.pixels


def patches_of(picture: Picture) -> Picture:
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((140, 84), Image.Resampling.BICUBIC)
    return patchify(np.asarray(small)[None], 14)[0]


def test_pictures_are_resized_by_pillow_and_cut_as_the_model_takes_them(made: Path) -> None:
    [found], frames = load_pictures([labelled(DEMO)], made), list(decoded())
    np.testing.assert_array_equal(found.rgb, frames)
    assert len(found.times_s) == len(frames)
    assert found.end_s > found.times_s[-1]
    numbers = [0, len(frames) // 2]
    expected = [patches_of(frames[number]) for number in numbers]
    np.testing.assert_array_equal(Eye(PROFILE).patches(found, numbers), expected)


def test_a_view_is_a_part_of_the_picture_in_a_mirror(made: Path) -> None:
    [found] = load_pictures([labelled(DEMO)], made)
    eye, looks = Eye(PROFILE), np.tile(np.arange(256, dtype=np.uint8)[::-1], (3, 1))
    looks[1] = 7  # green is lost
    height, width = found.rgb.shape[1:3]
    view = View(left=0.25, top=0.5, share=0.5, mirror=True, looks=looks)
    part = found.rgb[3, height // 2 :, width // 4 : width // 4 + width // 2][:, ::-1]
    expected = patches_of(part).reshape(60, 3, 196)
    seen = eye.patches(found, [3], view).reshape(60, 3, 196)
    np.testing.assert_array_equal(seen[:, [0, 2]], 255 - expected[:, [0, 2]])
    assert (seen[:, 1] == 7).all()
    corner = View(left=0.999, top=0.999, share=0.4)
    assert eye.patches(found, [0], corner).shape == (1, 60, 588)


def test_scenes_of_two_sizes_are_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "small.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=0.5:s=320x192", "-pix_fmt", "yuv420p", str(other)],
        check=True,
    )
    with pytest.raises(ConfigError, match="expected pictures of 400x240"):
        load_pictures([labelled(DEMO), labelled(other)], tmp_path / "cache")


def test_a_known_clip_is_not_decoded_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Path(shutil.copy(DEMO, tmp_path / "other-name.mp4"))
    monkeypatch.setattr(pictures.PictureStore, "add", None)
    first, second = load_pictures([labelled(DEMO), labelled(moved)], made)
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.rgb, second.rgb)


def test_what_a_killed_run_left_is_taken_up(made: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(made, tmp_path / "broken"))
    [index], [data] = broken.glob("*.jsonl"), broken.glob("*.u8")
    whole, line = data.read_bytes(), index.read_bytes()
    index.write_bytes(line + line[: len(line) // 2])  # a second line was being written
    data.write_bytes(whole + b"half a picture")
    [found] = load_pictures([labelled(DEMO)], broken)
    assert data.read_bytes() == whole
    assert found.rgb.tobytes() == whole
