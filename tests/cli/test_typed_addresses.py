"""Addresses of cameras in the wrong place of the command line: no output shows the password."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import sdk

CAMERA = "rtsp://bob:hunter2@cam/s"
SLIPS = [
    (CAMERA,),
    ("--" + CAMERA,),
    ("demo", CAMERA),
    ("doctor", CAMERA),
    ("bench", CAMERA),
    ("bench", "compare", CAMERA, "b.json"),
    ("analyze", "a.mp4", CAMERA),
    ("analyze", CAMERA),
    ("run", "bob:hunter2@cam/s"),
    ("run", "--sources", CAMERA),
    ("run", "--sources", "bob:hunter2@cam/s"),
    ("run", "--bundle", CAMERA, "x.mp4"),
    ("run", "--operating-point", CAMERA, "x.mp4"),
    ("run", "--runtime", CAMERA, "x.mp4"),
    ("run", "--trust", CAMERA, "x.mp4"),
    ("distil", CAMERA),
]


@pytest.mark.parametrize("words", SLIPS, ids=" ".join)
def test_no_slip_prints_a_password(words: tuple[str, ...], tmp_path: Path) -> None:
    done = sdk(*words, cwd=tmp_path)
    assert done.returncode in (2, 3, 4)
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "cam/s" in done.stderr


@pytest.mark.parametrize("option", ["--expect", "--threads"])
def test_values_that_need_not_be_repeated_hide_it_too(option: str) -> None:
    done = sdk("run", option, CAMERA, "x.mp4")
    assert done.returncode in (2, 4)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--sources", "--bundle"])
@pytest.mark.parametrize(
    "address", [CAMERA, "RTSPS://cam/s", "v4l2:///dev/video7", "v4l2://7", "csi://0", "csi://", "test://ball"]
)
def test_an_address_given_as_a_file_or_folder_is_told_from_one(option: str, address: str) -> None:
    done = sdk("run", option, address)
    assert done.returncode == 2
    assert f"found the address of a source; give it without {option}\n" in done.stderr
    assert done.stderr.startswith(f"edge-sdk: {option} {address.partition(':')[0]}:")
    assert "hunter2" not in done.stderr


def test_a_file_may_be_called_like_an_address(tmp_path: Path) -> None:
    (tmp_path / "test:").mkdir()
    (tmp_path / "test:" / "list").write_text("nowhere.mp4\n")
    done = sdk("run", "--sources", "test:/list", cwd=tmp_path)
    assert done.stderr == "edge-sdk: nowhere.mp4: no such file; check the path\n"


def test_usage_errors_keep_their_words_and_code() -> None:
    done = sdk("demos")
    assert done.returncode == 2
    assert "No such command 'demos'. Did you mean 'demo'?" in done.stderr
    assert "Usage: edge-sdk [OPTIONS] COMMAND [ARGS]..." in done.stderr
    assert "Error ─" in done.stderr


def test_an_error_still_shows_how_an_address_is_written() -> None:
    done = sdk("run", "rtsp//bob:hunter2@cam/s")
    assert "'***@cam/s': expected a file" in done.stderr
    assert "as in rtsp://user:password@camera/stream" in done.stderr
