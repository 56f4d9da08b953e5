"""The frame cache: decodes each clip once, goes on after an interruption, and is refused an empty clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import load_clips
from edge_sdk.export.distil.recipe import Pictures
from edge_sdk.types import Frame

PICTURES = Pictures(rate_hz=10.0, height=32, width=64, lags=(1,))


class CountingReader:
    """Gives as many frames as the file's text says, each filled with its number."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: Path, pictures: Pictures) -> Iterator[Frame]:
        self.read.append(path.name)
        for index in range(int(path.read_text().split()[0])):
            picture = np.full((pictures.height, pictures.width), index, np.uint8)
            yield Frame(pixels=picture, time_s=index / 10, sequence=index, captured_s=0.0)


def clips(folder: Path, *texts: str) -> list[LabelledClip]:
    made = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.mp4"
        path.write_text(text)
        made.append(
            LabelledClip(
                path=path, view="dashcam", crash=False, start_s=None, end_s=None, pre_crash_s=None, group=path.stem
            )
        )
    return made


def test_frames_come_back_by_clip(tmp_path: Path) -> None:
    loaded = load_clips(clips(tmp_path, "3 a", "5 b"), tmp_path / "cache", PICTURES, read=CountingReader())
    assert [len(clip.luma) for clip in loaded] == [3, 5]
    assert [clip.luma[:, 7, 9].tolist() for clip in loaded] == [[0, 1, 2], [0, 1, 2, 3, 4]]
    np.testing.assert_allclose(loaded[1].times_s, [0, 0.1, 0.2, 0.3, 0.4])


def test_a_clip_is_decoded_once_even_under_another_name(tmp_path: Path) -> None:
    reader, listed = CountingReader(), clips(tmp_path, "3 a", "5 b")
    load_clips(listed, tmp_path / "cache", PICTURES, read=reader)
    listed[0].path.rename(tmp_path / "moved.mp4")
    (tmp_path / "0.mp4").write_text("3 a")
    load_clips(listed, tmp_path / "cache", PICTURES, read=reader)
    assert reader.read == ["0.mp4", "1.mp4"]


def test_an_interrupted_build_goes_on_from_the_last_whole_clip(tmp_path: Path) -> None:
    listed, cache = clips(tmp_path, "3 a", "5 b"), tmp_path / "cache"
    load_clips(listed[:1], cache, PICTURES, read=CountingReader())
    (frames,), (index,) = cache.glob("*.u8"), cache.glob("*.jsonl")
    frames.write_bytes(frames.read_bytes() + b"half a clip")
    index.write_bytes(index.read_bytes() + b'{"sha256": "ab')
    reader = CountingReader()
    loaded = load_clips(listed, cache, PICTURES, read=reader)
    assert reader.read == ["1.mp4"]
    assert loaded[1].luma[:, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_other_picture_settings_have_their_own_cache(tmp_path: Path) -> None:
    listed, reader = clips(tmp_path, "2 a"), CountingReader()
    load_clips(listed, tmp_path / "cache", PICTURES, read=reader)
    small = Pictures(rate_hz=10.0, height=32, width=32, lags=(1,))
    assert load_clips(listed, tmp_path / "cache", small, read=reader)[0].luma.shape == (2, 32, 32)


def test_an_empty_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.mp4 has no frame"):
        load_clips(clips(tmp_path, "0"), tmp_path / "cache", PICTURES, read=CountingReader())


def test_a_crash_that_a_label_puts_behind_the_clip_is_refused(tmp_path: Path) -> None:
    [listed] = clips(tmp_path, "5 a")
    late = replace(listed, crash=True, start_s=12.0)
    with pytest.raises(ConfigError, match=r"0\.mp4: expected its crash to start within it, found crash_start_s 12, "):
        load_clips([late], tmp_path / "cache", PICTURES, read=CountingReader())


def test_boxes_beside_a_clip_come_with_it(tmp_path: Path) -> None:
    listed, boxes = clips(tmp_path, "3 a", "5 b"), np.random.default_rng(0).random((3, 2, 6), np.float32)
    np.save(tmp_path / "0.boxes.npy", boxes)
    loaded = load_clips(listed, tmp_path / "cache", PICTURES, read=CountingReader())
    np.testing.assert_array_equal(loaded[0].boxes, boxes)
    assert loaded[1].boxes is None
    [nameless] = load_clips([replace(listed[0], labelled=False)], tmp_path / "cache", PICTURES, read=CountingReader())
    assert nameless.boxes is None, "boxes tell who crashes"


def test_boxes_of_another_length_are_named(tmp_path: Path) -> None:
    listed = clips(tmp_path, "3 a")
    np.save(tmp_path / "0.boxes.npy", np.zeros((4, 2, 6), np.float32))
    with pytest.raises(ConfigError, match=r"0\.boxes\.npy.*found \[4, 2, 6\]"):
        load_clips(listed, tmp_path / "cache", PICTURES, read=CountingReader())
