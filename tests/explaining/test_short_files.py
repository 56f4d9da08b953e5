"""Files at the edge of what can be explained: one picture, and none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asking_bundles
import msgspec
import pytest
from asking_clips import make_clip

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language, VisionProfile
from edge_sdk.cli import main
from edge_sdk.errors import SourceError
from edge_sdk.explaining import (
    ReasonerProcess,
    ReasonerSettings,
    ReasoningReport,
    answers_of,
    ask_file,
    explain_file,
)
from edge_sdk.explaining.clips import nearest_profile
from edge_sdk.tasks import TASK_IDS


def test_a_file_of_one_picture_is_answered(asking: Bundle, tmp_path: Path) -> None:
    single = make_clip(tmp_path / "single.mp4", seconds=1, after=("-frames:v", "1"))
    found = ask_file(asking, single, TASK_IDS, settings=ReasonerSettings(priority=0))
    assert (found.report.frames, found.report.kept_ratio) == (1, 1.0)
    assert tuple(found.answers) == TASK_IDS
    interval = found.answers["crash_interval"].value
    # Within a picture's period of the only one there is.
    assert isinstance(interval, tuple)
    assert all(abs(each) <= 0.1 + 1e-9 for each in interval)


def test_a_short_file_is_answered_with_the_smaller_cache_and_the_same_words(asking: Bundle, tmp_path: Path) -> None:
    """A process that stays has one for clips of any length."""
    short = make_clip(tmp_path / "short.mp4", seconds=1)
    patient = ReasonerSettings(priority=0)
    found = ask_file(asking, short, TASK_IDS, settings=patient)
    with ReasonerProcess(asking, patient) as process:
        spoken = list(explain_file(process, short, TASK_IDS))
    assert isinstance(spoken[-1], ReasoningReport)
    assert found.report.frames == spoken[-1].frames == 10
    assert (found.report.slots, spoken[-1].slots) == asking_bundles.SLOTS
    answers = answers_of(spoken)
    for task, answer in found.answers.items():
        assert (answer.text, answer.value, answer.tokens) == (
            answers[task].text,
            answers[task].value,
            answers[task].tokens,
        )
        assert answer.probability == pytest.approx(answers[task].probability, abs=1e-4)


def test_a_file_that_fills_the_profile_is_answered_with_the_larger_cache(asking: Bundle, tmp_path: Path) -> None:
    full = make_clip(tmp_path / "full.mp4", seconds=10)
    assert ask_file(asking, full, ["recognition"], settings=ReasonerSettings(priority=0)).report.slots == 4096


def sound(path: Path) -> Path:
    words = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *words], check=True, timeout=60)
    return path


def nothing(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def no_frame(path: Path) -> Path:
    return make_clip(path, seconds=1, after=("-frames:v", "0"))


@pytest.mark.parametrize("made", [sound, nothing, no_frame])
@pytest.mark.parametrize("verb", ["explain", "analyze"])
def test_a_file_without_a_picture_is_one_line_and_an_exit_code(
    made: Callable[[Path], Path],
    verb: str,
    asking: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = made(tmp_path / "clip.mp4")
    monkeypatch.setattr(sys, "argv", ["edge-sdk", verb, str(clip), "--bundle", str(asking.folder)])
    with pytest.raises(SystemExit) as left:
        main()
    told, said = capsys.readouterr()
    assert (left.value.code, told, said.count("\n")) == (SourceError.exit_code, "", 1), said
    assert "clip.mp4" in said


@pytest.fixture(scope="module")
def language(asking: Bundle) -> Language:
    """Profiles of 12, 48 and 96 frames at ten a second, and one of 24 at five."""
    sizes = {"96f": (96, 10.0), "12f": (12, 10.0), "24f": (24, 5.0), "48f": (48, 10.0)}
    profiles = {
        name: VisionProfile(frames=frames, rate_hz=rate_hz, width=28, height=28, graphs={})
        for name, (frames, rate_hz) in sizes.items()
    }
    assert asking.manifest.language is not None
    return msgspec.structs.replace(asking.manifest.language, profiles=profiles)


@pytest.mark.parametrize(
    ("frames", "profile"), [(1, "12f"), (12, "12f"), (13, "48f"), (48, "48f"), (49, "96f"), (96, "96f"), (97, "96f")]
)
def test_the_smallest_profile_of_the_same_rate_that_holds_the_frames_is_taken(
    language: Language, frames: int, profile: str
) -> None:
    assert nearest_profile(language, "96f", frames) == profile


@pytest.mark.parametrize(("own", "frames", "profile"), [("24f", 3, "24f"), ("24f", 50, "24f"), ("12f", 97, "12f")])
def test_no_profile_of_another_rate_is_taken_and_its_own_where_none_fits(
    language: Language, own: str, frames: int, profile: str
) -> None:
    assert nearest_profile(language, own, frames) == profile
