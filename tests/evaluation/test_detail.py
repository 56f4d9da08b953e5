from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.evaluation.detail import (
    Detail,
    content_frames,
    decode_footage,
    luma_of,
    picture_bytes,
    trim_footage,
)


def moving(kit: SimpleNamespace, frames: int) -> np.ndarray:
    luma = kit.scene(frames)
    for t in range(frames):
        luma[t, 40:70, 3 * t : 3 * t + 30] = 250
    return luma


def test_pictures_survive_the_round_trip(kit: SimpleNamespace, tmp_path: Path) -> None:
    luma = moving(kit, 24)
    decoded = decode_footage(kit.write_clip(tmp_path / "a.mp4", luma), kit.detail)
    error = luma_of(decoded, kit.detail).astype(int) - luma
    assert len(decoded) == 24
    assert np.abs(error).mean() < 4
    assert np.abs(np.abs(error).mean(axis=(1, 2)) - np.abs(error).mean()).max() < 2


def test_size_does_not_tell_motion_from_stillness(kit: SimpleNamespace, tmp_path: Path) -> None:
    still = kit.write_clip(tmp_path / "still.mp4", kit.scene(30)).stat().st_size
    noise = np.random.default_rng(1).integers(0, 256, (30, 130, 130)).astype(np.uint8)
    busy = kit.write_clip(tmp_path / "busy.mp4", noise).stat().st_size
    assert abs(still - busy) < 0.06 * busy


def test_every_shape_becomes_one(kit: SimpleNamespace, tmp_path: Path) -> None:
    wide = tmp_path / "wide.mp4"
    words = "videotestsrc num-buffers=45 ! video/x-raw,width=320,height=90,framerate=30/1 ! x264enc ! mp4mux"
    subprocess.run(["gst-launch-1.0", "-q", *words.split(), "!", "filesink", f"location={wide}"], check=True)
    decoded = decode_footage(wide, kit.detail)
    assert decoded.shape == (15, picture_bytes(130, 130))


def test_content_ends_before_flat_padding(kit: SimpleNamespace) -> None:
    luma = kit.scene(20)
    luma[5] = 127
    luma[13:] = 127
    assert content_frames(kit.pictures(luma), kit.detail) == 13
    assert content_frames(kit.pictures(np.full((4, 130, 130), 9, np.uint8)), kit.detail) == 0


def test_a_trimmed_clip_has_the_first_pictures_in_their_own_shape(kit: SimpleNamespace, tmp_path: Path) -> None:
    source = kit.write_clip(tmp_path / "a.mp4", moving(kit, 30))
    trim_footage(source, tmp_path / "b.mp4", 11, kit.detail)
    whole, trimmed = (decode_footage(path, kit.detail).astype(int) for path in (source, tmp_path / "b.mp4"))
    assert len(trimmed) == 11
    assert np.abs(whole[:11] - trimmed).mean() < 3


@pytest.mark.parametrize(("width", "height"), [(130, 130), (4, 2), (5, 3), (320, 180), (131, 97)])
def test_size_of_a_picture_is_gstreamer_s(width: int, height: int) -> None:
    gi = pytest.importorskip("gi")
    gi.require_version("GstVideo", "1.0")
    from gi.repository import GstVideo

    info = GstVideo.VideoInfo()
    info.set_format(GstVideo.VideoFormat.I420, width, height)
    assert picture_bytes(width, height) == info.size


def test_what_is_no_video_is_one_clear_error(kit: SimpleNamespace, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(SourceError, match=r"notes\.mp4 cannot be brought to the common form"):
        decode_footage(text, kit.detail)


def test_pictures_of_another_form_are_refused_and_nothing_is_written(kit: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="130x130"):
        kit.write_clip(tmp_path / "a.mp4", np.zeros((0, 130, 130), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_detail_that_no_codec_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        Detail(width=231)
    with pytest.raises(ValueError, match="at least 1"):
        Detail(rate_hz=0)
