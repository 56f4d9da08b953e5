"""What users see of answers: `analyze`, `explain`, `demo` and `Unit.explain`, on files and on a live source."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asking_bundles import watching
from asking_clips import LOSSLESS, STILL, make_clip
from command_line import SDK, last_json, sdk
from demo_pictures import CLIP, decoded, playing

from edge_sdk.analysis import analyze
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import VisionProfile
from edge_sdk.capture import Feed
from edge_sdk.cli import main
from edge_sdk.cli.explain import read_subject
from edge_sdk.errors import BundleError, Cancelled, ConfigError, RuntimeFailure
from edge_sdk.events import CrashTimeline, Event
from edge_sdk.explaining import (
    Piece,
    ReasonerProcess,
    ReasonerSettings,
    ReasoningReport,
    Reply,
    ask_file,
    clips,
    explain_file,
    tasks_of,
)
from edge_sdk.explaining.kept import begins_s
from edge_sdk.explaining.live import history_settings
from edge_sdk.explaining.sampling import ClipPlan, plan_clip
from edge_sdk.tasks import TASK_IDS
from edge_sdk.types import Estimate
from edge_sdk.unit import Unit

FIELDS = {"form", "value", "text", "probability", "lo", "hi", "tokens", "grid", "abstain", "contradiction"}


@pytest.fixture(scope="module")
def analysed(asking: Bundle) -> dict[str, Any]:
    """The demo clip, watched and asked about."""
    found: dict[str, Any] = last_json(sdk("analyze", str(CLIP), "--bundle", str(asking.folder), "--json"))
    return found


def test_analyze_answers_all_six_and_says_what_it_took(analysed: dict[str, Any]) -> None:
    assert list(analysed["answers"]) == list(TASK_IDS)
    for task, answer in analysed["answers"].items():
        assert set(answer) >= FIELDS, task
        assert answer["grid"] == "84x56"
        assert len(answer["prompt_sha256"]) == 64
    assert set(analysed["reasoning_ms"]) == {"vision", "prefill", "after_last_frame", "decode"}
    assert all(ms > 0 for ms in analysed["reasoning_ms"].values())
    (event,) = analysed["events"]
    assert event["reasoning"] == analysed["answers"]
    assert msgspec.convert(event, Event).reasoning is not None


@pytest.mark.parametrize("verb", ["analyze", "explain"])
def test_the_share_of_tokens_that_was_kept_is_told(verb: str, asking: Bundle, tmp_path: Path) -> None:
    """Nothing moves: all tokens of the first picture, and one of each that follows, which a picture keeps always."""
    still = make_clip(tmp_path / "still.mp4", seconds=1, rate="10", size=(84, 56), after=LOSSLESS, shows=STILL)
    words = ("--bundle", str(asking.folder), "--task", "recognition", "--json")
    report = last_json(sdk(verb, str(still), *words))["reasoning"]
    assert (report["frames"], report["grid"]) == (10, "56x28")
    tokens = 56 * 28 // 28**2
    assert report["kept_ratio"] == pytest.approx((tokens + 9) / (10 * tokens), abs=1e-4)


def test_analyze_keeps_a_deadline_in_the_profile_that_it_is_given(clip: Path, asking: Bundle) -> None:
    """Half a second would go into the smaller profile by itself; in no time at all not even the model is open."""
    words = ("--bundle", str(asking.folder), "--profile", "96f", "--deadline-s", "60", "--json")
    found = last_json(sdk("analyze", str(clip), *words))
    assert (found["reasoning"]["frames"], found["reasoning"]["grid"]) == (5, "84x56")
    assert {answer["grid"] for answer in found["answers"].values()} == {"84x56"}
    late = sdk("analyze", str(clip), "--bundle", str(asking.folder), "--deadline-s", "0", "--json")
    assert late.returncode == RuntimeFailure.exit_code
    assert "still opening its bundle" in late.stderr
    assert json.loads(late.stdout)["answers"] is None


def test_explain_takes_an_event_s_json(analysed: dict[str, Any], asking: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"source_state":{}}\n' + json.dumps(analysed["events"][0]) + "\n")
    words = ("--bundle", str(asking.folder), "--task", "recognition", "--json")
    found = last_json(sdk("explain", str(file), *words))
    assert found["source"] == CLIP.absolute().as_uri()
    assert found["answers"]["recognition"] == analysed["answers"]["recognition"] | {
        "contradiction": found["answers"]["recognition"]["contradiction"]
    }
    assert found["event"]["reasoning"] == found["answers"]
    assert found["event"]["id"] == analysed["events"][0]["id"]


def test_explain_streams_the_text_of_one_task(clip: Path, asking: Bundle) -> None:
    """As it comes: the first words stand there long before the last."""
    words = [str(SDK), "explain", str(clip), "--bundle", str(asking.folder), "--task", "cause", "--stream"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.read(6)
        seen_s = time.monotonic()
        rest = process.stdout.read()
        assert time.monotonic() - seen_s > 0.05
    assert process.returncode == 0
    assert first.strip()
    assert "(unsure)" in rest
    # Half a second at 10 Hz goes into the smaller profile.
    assert "5 frames of 56x28" in rest


def test_a_clip_whose_name_is_not_utf_8_is_explained(clip: Path, asking: Bundle, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / os.fsdecode(b"cl\xff.mp4"))
    words = ("--bundle", str(asking.folder), "--task", "recognition", "--json")
    found = last_json(sdk("explain", os.fsdecode(b"cl\xff.mp4"), *words, cwd=tmp_path))
    assert found["source"] == f"{tmp_path.as_uri()}/cl%FF.mp4"


def test_a_bundle_without_a_language_part_says_what_to_do(clip: Path) -> None:
    student = ("--bundle", str(watching().folder))
    result = sdk("explain", str(clip), *student)
    assert result.returncode == 4
    assert result.stderr.count("\n") == 1
    assert "has no language part" in result.stderr
    assert "--bundle" in result.stderr
    asked = sdk("analyze", str(clip), *student, "--deadline-s", "1")
    assert (asked.returncode, asked.stdout) == (4, "")
    assert "has no language part" in asked.stderr
    quiet = last_json(sdk("analyze", str(clip), *student, "--json"))
    assert quiet["answers"] is None
    assert quiet["reasoning_ms"] is None
    assert quiet["reasoning"] is None


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("explain", "missing.mp4"), 3, "missing.mp4"),
        (("explain", "missing.json"), 2, "expected a file with an event"),
        (("explain", '{"id": 1}'), 2, "expected an event"),
        (("explain", "x.mp4", "--task", "weather"), 2, "unknown task 'weather'"),
        (("explain", "x.mp4", "--profile", "7f"), 2, "unknown profile '7f'"),
        (("explain", "x.mp4", "--memory-mb", "-1"), 2, "above 0"),
        (("analyze", str(CLIP), "--profile", "7f"), 2, "unknown profile '7f'"),
        (("analyze", str(CLIP), "--memory-mb", "-1"), 2, "above 0"),
        (("analyze", "x.mp4", "--task", "cause", "--no-reasoning"), 2, "--task would have no effect: leave it out"),
        (
            ("analyze", "x.mp4", "--deadline-s", "1", "--no-reasoning"),
            2,
            "--deadline-s would have no effect: leave it out",
        ),
        (("analyze", "rtsp://user:secret@127.0.0.1:1/nothing"), 2, "watch it with `edge-sdk run`"),
        (("explain", "rtsp://user:secret@127.0.0.1:1/nothing"), 2, "rtsp://127.0.0.1:1/nothing: expected a file"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    words: tuple[str, ...],
    code: int,
    message: str,
    asking: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: that of a user is seen in `test_a_bundle_without_a_language_part_says_what_to_do`."""
    monkeypatch.setattr(sys, "argv", ["edge-sdk", *words, "--bundle", str(asking.folder)])
    with pytest.raises(SystemExit) as left:
        main()
    told, said = capsys.readouterr()
    assert (left.value.code, told, said.count("\n")) == (code, "", 1), said
    assert message in said


@pytest.mark.parametrize("words", [("--json",), ()])
def test_what_the_student_found_is_told_when_the_video_llm_fails(
    words: tuple[str, ...], asking: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("analyze", str(CLIP), "--bundle", str(asking.folder), "--memory-mb", "10", *words)
    monkeypatch.setattr(sys, "argv", ["edge-sdk", *given])
    with pytest.raises(SystemExit) as left:
        main()
    told, said = capsys.readouterr()
    assert left.value.code == ConfigError.exit_code
    assert "MB that the reasoner's libraries take" in said
    if not words:
        assert told.count("crash (probability") == 1
        return
    found = json.loads(told.splitlines()[-1])
    assert found["crash"]["detected"]
    assert len(found["events"]) == 1
    assert (found["answers"], found["reasoning_ms"]) == (None, None)


def test_a_live_source_is_refused_before_anything_is_started(asking: Bundle) -> None:
    with pytest.raises(ConfigError, match="v4l2:///dev/video0: expected a file"):
        analyze("v4l2://0", asking)
    with ReasonerProcess(asking) as process:
        with pytest.raises(ConfigError, match="csi://0"):
            next(explain_file(process, "csi://0", ["cause"]))
        assert process.pid is None


def test_an_event_of_a_camera_is_not_a_clip(analysed: dict[str, Any]) -> None:
    event = analysed["events"][0] | {"source": "rtsp://camera/stream"}
    with pytest.raises(ConfigError, match=r"which keeps no pictures.*Unit.explain"):
        read_subject(json.dumps(event))


def test_a_unit_that_was_closed_starts_no_process_for_a_late_question(asking: Bundle) -> None:
    with Unit(CLIP, asking) as unit:
        event = next(iter(unit.events({"closed"})))
    with pytest.raises(ConfigError, match="this unit was closed"):
        unit.explain(event, ["recognition"])
    assert unit._explainer is None


def test_a_question_that_runs_when_its_unit_is_closed_is_cancelled(asking: Bundle) -> None:
    """No failure: what fails may be asked again."""
    with Unit(CLIP, asking) as unit:
        event = next(iter(unit.events({"closed"})))
        said = unit.explain(event)
        assert isinstance(next(said), Piece)
        assert unit._explainer is not None
        pid = unit._explainer.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # small as the model is, it would be done before
    with pytest.raises(Cancelled, match="this program closed it"):
        list(said)


def test_a_unit_explains_its_file_s_event(asking: Bundle) -> None:
    with Unit(CLIP, asking) as unit:
        event = next(iter(unit.events({"closed"})))
        said = list(unit.explain(event, ["recognition", "crash_interval"]))
        with pytest.raises(ConfigError, match="not a source of this unit"):
            unit.explain(msgspec.structs.replace(event, source="file:///elsewhere.mp4"))
    with pytest.raises(ConfigError, match="this unit was closed"):
        list(unit.explain(event, ["recognition"]))
    *_, report, whole = said
    assert isinstance(report, ReasoningReport)
    # The clip's at 10 a second.
    assert report.frames == len(decoded(10))
    assert isinstance(whole, Event)
    assert whole.reasoning == {item.task: item.answer for item in said if isinstance(item, Reply)}
    assert set(whole.reasoning or {}) == {"recognition", "crash_interval"}
    assert any(isinstance(item, Piece) for item in said)


@pytest.mark.native
def test_a_live_event_is_explained_from_the_frames_that_were_kept(asking: Bundle) -> None:
    feed = Feed("rgb", width=400, height=240, rate_hz=10)
    settings = ReasonerSettings(priority=0)
    with Unit(feed, asking, reasoning=settings) as unit, playing(feed, decoded(10), 10):
        revisions, explainer = [], unit._explainer
        assert explainer is not None
        for event in unit.events():
            revisions.append(event)
            if event.state == "provisional":
                # Work has begun before anybody asked.
                assert list(explainer._following) == [event.id]
            if event.state == "closed":
                break
        said = list(unit.explain(revisions[-1], ["recognition", "pre_crash_time"]))
        # Another may be coming, and does not: the work on it is given up.
        feeder, other = unit.streams[0].feeder, msgspec.structs.replace(revisions[0], id="other")
        explainer.notice(other, feeder)
        clip = explainer._following["other"]
        while not clip._pushed:
            time.sleep(0.01)
        explainer.notice(msgspec.structs.replace(other, state="rejected"), feeder)
        explainer.process.begin(wait_s=5).close()
    whole, report = said[-1], said[-2]
    assert isinstance(whole, Event)
    assert isinstance(report, ReasoningReport)
    assert set(whole.reasoning or {}) == {"recognition", "pre_crash_time"}
    first = revisions[-1].timeline.pre_crash_start or revisions[-1].timeline.crash_start
    assert first is not None
    assert 20 < report.frames <= 96
    value = (whole.reasoning or {})["pre_crash_time"].value
    assert isinstance(value, float)
    assert begins_s(revisions[-1].timeline) - 0.2 <= value <= 8


def test_a_live_source_that_keeps_no_frames_says_how_to(asking: Bundle) -> None:
    feed = Feed("rgb", width=64, height=48, rate_hz=10)
    with Unit(feed, asking) as unit:
        with Unit(CLIP, asking) as other:
            event = next(iter(other.events({"provisional"})))
        with pytest.raises(ConfigError, match="keeps no frames to reason about"):
            list(unit.explain(msgspec.structs.replace(event, source=unit.sources[0].uri)))


def test_frames_begin_four_seconds_before_what_could_be_foreseen() -> None:
    crash, sign = Estimate(t=12.0, lo=11.0, hi=13.0), Estimate(t=9.0, lo=8.5, hi=9.5)
    assert begins_s(CrashTimeline(crash_start=crash, pre_crash_start=sign)) == 4.5
    assert begins_s(CrashTimeline(crash_start=crash)) == 7.0
    assert begins_s(CrashTimeline(crash_start=Estimate(t=2.0, lo=1.0, hi=3.0))) == 0.0


def test_kept_frames_are_wide_and_twice_what_the_model_sees() -> None:
    kept = history_settings(VisionProfile(frames=96, rate_hz=10.0, width=364, height=196, graphs={}))
    assert kept.width >= 2 * 364
    assert kept.height >= 2 * 196
    assert kept.width / kept.height == pytest.approx(16 / 9, rel=0.01)
    assert (kept.rate_hz, kept.frames) == (10.0, 150)


def test_only_what_the_bundle_answers_is_asked(asking: Bundle) -> None:
    language = asking.manifest.language
    assert language is not None
    assert tasks_of(language) == TASK_IDS
    assert tasks_of(language, ["cause", "recognition", "cause"]) == ("recognition", "cause")
    spoken = {name: each for name, each in language.adapters.items() if name == "linguistic"}
    with pytest.raises(BundleError, match="does not answer 'crash_interval'"):
        tasks_of(msgspec.structs.replace(language, adapters=spoken), ["crash_interval"])


def test_a_clip_of_six_thousand_frames_is_answered(asking: Bundle, tmp_path: Path) -> None:
    """Ten minutes, of which the profile's 96 frames are shown; times of the answer lie anywhere in them."""
    long = make_clip(tmp_path / "long.mp4", seconds=600, rate="10", size=(32, 32))
    found = ask_file(asking, long, ["recognition", "crash_interval"], settings=ReasonerSettings(priority=0))
    assert found.report.frames == 96
    assert set(found.answers) == {"recognition", "crash_interval"}


def test_a_question_whose_file_is_looked_at_when_its_unit_is_closed_is_cancelled(
    asking: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(CLIP, asking)
    event = next(iter(unit.events({"closed"})))

    def looked_at(*given: Any, **words: Any) -> ClipPlan:
        plan = plan_clip(*given, **words)
        unit.close()
        return plan

    monkeypatch.setattr(clips, "plan_clip", looked_at)
    with pytest.raises(Cancelled, match="closed while a question was on its way"):
        list(unit.explain(event, ["recognition"]))


def test_a_question_that_is_first_read_when_its_unit_is_closed_is_cancelled(asking: Bundle) -> None:
    with Unit(CLIP, asking) as unit:
        said = unit.explain(next(iter(unit.events({"closed"}))), ["recognition"])
    with pytest.raises(Cancelled, match="closed while a question was on its way"):
        next(said)
