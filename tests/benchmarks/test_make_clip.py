"""The video of the capture benchmark is the one it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.benchmarks.make_clip import main, make_clip
from edge_sdk.capture import CaptureSettings, open_source
from edge_sdk.errors import ConfigError


def test_the_clip_is_1080p30_h264_high_at_8_mbit_per_second(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a clip.mp4", seconds=1.5)
    data = path.read_bytes()
    assert 1.0e6 < len(data) < 2.2e6
    assert data[data.index(b"avcC") + 5] == 100, "profile_idc of High"
    with open_source(str(path), CaptureSettings(width=160, height=90)) as source:
        frames = list(source)
        info = source.info
    assert (info.codec, info.width, info.height, info.rate_hz) == ("h264", 1920, 1080, 30.0)
    assert len(frames) == 45
    assert abs(frames[10].pixels.astype(int) - frames[20].pixels).mean() > 2, "it moves"
    assert list(tmp_path.iterdir()) == [path]


def test_a_length_out_of_range_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0.1..3600"):
        make_clip(tmp_path / "clip.mp4", seconds=0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", ["0", "inf", "nan"])
def test_the_command_line_refuses_such_a_length_in_one_line(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "clip.mp4"), "--seconds", seconds]) == ConfigError.exit_code
    told = capsys.readouterr().err
    assert told.startswith("make-clip: seconds must be 0.1..3600, found ")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
