"""The Python API on the demo bundle's own clip: one loop, three views, one truth."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edge_sdk
from edge_sdk.analysis import BOUNDARIES, analyze, describe, quantiles
from edge_sdk.bundle import default_bundle, open_bundle, rewrite
from edge_sdk.errors import BundleError, ConfigError, EdgeError, RuntimeFailure, SourceError, UnknownNameError
from edge_sdk.unit import Unit

CLIP = default_bundle() / "demo" / "clip.mp4"


def test_events_tell_the_scene_s_truth() -> None:
    truth = json.loads(CLIP.with_suffix(".json").read_text())
    with edge_sdk.open(CLIP) as unit:
        events = list(unit.events())
    closed = [event for event in events if event.state == "closed"]
    assert [event.state for event in events].count("confirmed") == len(closed) == 1
    start = closed[0].timeline.crash_start
    assert start is not None
    assert abs(start.t - truth["crash_start_s"]) < 0.7
    assert closed[0].provenance.bundle_sha256 == unit.bundle.sha256


def test_only_the_states_asked_for() -> None:
    with edge_sdk.open(CLIP) as unit:
        assert [event.state for event in unit.events({"confirmed"})] == ["confirmed"]


def test_frames_and_scores_walk_the_same_grid() -> None:
    with Unit(CLIP) as unit:
        frames = [(frame.time_s, frame.sequence, frame.pixels.shape) for frame in unit.frames()]
    with Unit(CLIP) as unit:
        times = [row.time_s for row in unit.scores()]
    assert [time_s for time_s, _, _ in frames] == times
    assert [sequence for _, sequence, _ in frames] == list(range(len(frames)))
    assert {shape for _, _, shape in frames} == {(192, 320)}
    assert np.allclose(np.diff(times), 0.1, atol=1e-6)


def test_the_same_file_gives_the_same_scores() -> None:
    first, second = (analyze(CLIP) for _ in range(2))
    assert first.scores == second.scores
    assert first.analysis.crash == second.analysis.crash


def test_a_unit_left_early_closes() -> None:
    with Unit(CLIP) as unit:
        scores = unit.scores()
        next(scores)
    assert next(scores, None) is None
    assert unit.stats.delivered == 1


def test_a_test_pattern_is_not_a_crash() -> None:
    found = analyze("test://gradient?duration=3").analysis
    assert not found.crash.detected
    assert found.events == ()
    assert found.frames.analysed in (30, 31)


def test_a_clip_cut_out_of_its_file_is_analysed_too(tmp_path: Path) -> None:
    """Another container moves the first presentation time and may end the grid one instant later; events stay."""
    moved = tmp_path / "moved.ts"
    words = f"filesrc location={CLIP} ! qtdemux ! h264parse ! mpegtsmux ! filesink location={moved}"
    subprocess.run(["gst-launch-1.0", "-q", *words.split()], check=True, timeout=60)
    original, remuxed = analyze(CLIP).analysis, analyze(moved).analysis
    assert remuxed.crash.score == pytest.approx(original.crash.score, abs=0.02)
    for name in BOUNDARIES:
        before, after = (getattr(found.events[0].timeline, name) for found in (original, remuxed))
        assert (after is None) == (before is None)
        assert after is None or after.t == pytest.approx(before.t, abs=0.11)


def test_a_bundle_without_a_student_and_a_missing_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=str(tmp_path)):
        Unit(CLIP, tmp_path)
    with pytest.raises(SourceError, match="nothing-here"):
        Unit(tmp_path / "nothing-here.mp4")


@pytest.mark.parametrize("rate_hz", [0.0, -10.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate_hz: float) -> None:
    with pytest.raises(ConfigError, match="rate_hz"):
        Unit(CLIP, rate_hz=rate_hz)


def failing(call: Callable[[], Any], after: int, error: EdgeError) -> Callable[[], Any]:
    """`call`, which works so often and then fails."""
    left = iter(range(after))

    def once() -> Any:
        if next(left, None) is None:
            raise error
        return call()

    return once


@pytest.mark.parametrize("broken", ["the file", "the runtime"])
def test_an_error_is_raised_when_the_open_event_is_closed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Unit(CLIP) as unit:
        confirmed = next(
            number for number, step in enumerate(unit.steps()) if "confirmed" in [event.state for event in step.events]
        )
    error = SourceError("cut off") if broken == "the file" else RuntimeFailure("lost its device")
    with Unit(CLIP) as unit:
        place, name = (unit.streams[0].feeder, "take") if broken == "the file" else (unit._recogniser, "step")
        monkeypatch.setattr(place, name, failing(getattr(place, name), confirmed + 3, error))
        states: list[str] = []
        with pytest.raises(type(error), match=str(error)):
            states.extend(event.state for event in unit.events())
    assert states == ["provisional", "confirmed", "closed"]


def test_the_operating_point_decides_what_is_an_event(tmp_path: Path) -> None:
    bundle = open_bundle()
    student = bundle.manifest.student
    assert student is not None
    deaf = msgspec.structs.replace(student.operating_point, name="quiet", confirm=1.1, provisional=1.05)
    rewrite(bundle, tmp_path / "two", student=msgspec.structs.replace(student, operating_points=(deaf,)))
    heard, unheard = (analyze(CLIP, tmp_path / "two", operating_point=name).analysis for name in (None, "quiet"))
    assert heard.crash.detected
    assert heard.crash.operating_point == heard.events[0].provenance.operating_point == "balanced"
    assert not unheard.crash.detected
    assert unheard.crash.operating_point == "quiet"
    assert unheard.crash.score == heard.crash.score
    with edge_sdk.open(CLIP, tmp_path / "two", operating_point="quiet") as unit:
        assert list(unit.events()) == []
    with pytest.raises(UnknownNameError, match="known: balanced, quiet"):
        Unit(CLIP, tmp_path / "two", operating_point="loud")


def test_a_file_of_few_pictures_a_second_says_that_its_score_is_no_probability() -> None:
    slow = analyze("test://ball?duration=4&width=320&height=192&rate=2")
    (warning,) = slow.analysis.warnings
    assert warning == "it has 2 pictures a second, but the student needs 10: its scores are not probabilities"
    assert not slow.analysis.crash.calibrated
    assert not any(event.calibrated for event in slow.analysis.events)
    assert slow.evidence is None
    frames = slow.analysis.frames
    assert frames.analysed == frames.decoded - frames.dropped + frames.repeated
    assert frames.repeated > frames.decoded
    assert "not calibrated" in describe(slow.analysis)
    whole = analyze(CLIP).analysis
    assert whole.crash.calibrated
    assert whole.warnings == ()


def test_the_report_for_people_names_the_verdict_and_the_times() -> None:
    text = describe(analyze(CLIP).analysis)
    assert "crash (probability" in text
    assert "crash-start" in text
    assert "frames analysed" in text


def test_quantiles_of_nothing_are_unknown() -> None:
    assert quantiles([]).p50 is None
    assert quantiles([1.0, 3.0]).p50 == 2.0
