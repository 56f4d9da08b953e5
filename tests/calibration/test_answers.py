"""From rendered scenes to a bundle that knows what its answers are worth, with a tiny video LLM that knows nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from asking_bundles import make_asking, watching
from asking_clips import make_clip
from scene_records import scene_record
from watched_events import event

from edge_sdk.analysis import AnalysedClip, analyze
from edge_sdk.bundle import Bundle, default_bundle, open_bundle
from edge_sdk.bundle.manifest_language import FusedFit
from edge_sdk.calibration import answer_fits, answers
from edge_sdk.calibration.operating_points import mix_weights
from edge_sdk.cli import main
from edge_sdk.clips import LabelledClip, SceneRecord, SceneTruth, read_record, read_scenes
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.evaluation.tasks.parse import interval
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.events import CrashTimeline, Event
from edge_sdk.reasoning.forms.scores import calibrated
from edge_sdk.runtime import SessionOptions
from edge_sdk.toolchain.calibrating import calibrate_answers, describe_answers
from edge_sdk.types import Estimate

SIDE = 4
CRASH = SceneTruth(striker="truck", struck="car", cause="no_right_of_way", culprit="truck")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_asking(tmp_path_factory.mktemp("asking"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of them crashes; the pictures know nothing of it."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(2 * SIDE):
        crash, name = number % 2 == 0, f"scene_{number}"
        record = scene_record(
            (0.1, 0.2 + number / 50, 0.4) if crash else None,
            name=name,
            seed=number,
            width=96,
            height=64,
            frames=5,
            duration_s=0.5,
            truth=CRASH if crash else SceneTruth(),
        )
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(record))
        make_clip(folder / f"{name}.mp4", seconds=0.5, rate="10", size=(96, 64 + 2 * number))
    return folder


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (answers, answer_fits):
        monkeypatch.setattr(module, "MIN_ANSWERS", SIDE)


def test_the_bundle_says_what_its_answers_are_worth(asking: Bundle, scenes: Path, tmp_path: Path) -> None:
    from edge_sdk.explaining import ReasonerSettings, ask_file

    report = calibrate_answers(asking.folder, scenes, tmp_path / "out", least=0.4, quiet=True)
    assert set(report.tasks) == {
        "recognition",
        "description",
        "cause",
        "prevention",
        "crash_interval",
        "pre_crash_time",
    }
    made = open_bundle(tmp_path / "out")
    assert made.manifest.files.keys() - asking.manifest.files.keys() == {"calibration/answers.json"}
    told = json.loads((made.folder / "calibration/answers.json").read_text())
    assert (told["clips"], told["crashes"]) == (2 * SIDE, SIDE)
    assert told["tasks"]["cause"]["answers"] == 2 * SIDE
    assert told["tasks"]["crash_interval"]["answers"] == SIDE
    # Nothing but the worth of answers has changed, and it is what the fit says.
    clip, plain = scenes / "scene_0.mp4", ReasonerSettings(priority=0)
    before, after = (ask_file(each, clip, ["cause", "crash_interval"], settings=plain) for each in (asking, made))
    for task in ("cause", "crash_interval"):
        was, now, fit = before.answers[task], after.answers[task], report.tasks[task].fit
        assert (was.calibrated, now.calibrated) == (False, True)
        assert (now.text, now.value) == (was.text, was.value)
        assert was.probability is not None
        assert now.probability == pytest.approx(calibrated(was.probability, fit), abs=1e-4)
        assert now.abstain or fit.abstain_below == 0.4


class Stopped(Exception):
    """A run that ends in its middle."""


def test_a_calibration_that_was_stopped_goes_on_and_ends_as_one_that_was_not(
    asking: Bundle, scenes: Path, tmp_path: Path
) -> None:
    def until(last: int) -> Callable[[int, int], None]:
        def progress(done: int, _total: int) -> None:
            if done == last:
                raise Stopped

        return progress

    kept = tmp_path / "cut.work"
    for last in (3, 5):
        with pytest.raises(Stopped):
            answers.calibrate_answers(asking, scenes, tmp_path / "cut", on_progress=until(last))
        written = {path.name: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
        assert len(written) == last
        if last == 3:
            first = written
            # A file that a broken disk has cut is asked for again.
            broken = next(kept.rglob("*.json"))
            broken.write_bytes(broken.read_bytes()[:-9])
    assert {name: at for name, at in written.items() if name in first and name != broken.name} == {
        name: at for name, at in first.items() if name != broken.name
    }
    fits = [answers.calibrate_answers(asking, scenes, tmp_path / name) for name in ("cut", "whole")]
    assert fits[0] == fits[1]
    cut, whole = (open_bundle(tmp_path / name).manifest for name in ("cut", "whole"))
    assert (cut.language, cut.files) == (whole.language, whole.files)
    assert not kept.exists()


def test_margins_hold_the_truths_that_they_were_fitted_on(asking: Bundle, scenes: Path, tmp_path: Path) -> None:
    from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, answers_of, explain_file

    calibrate_answers(asking.folder, scenes, tmp_path / "out", quiet=True)
    inside = 0
    with ReasonerProcess(open_bundle(tmp_path / "out"), ReasonerSettings(priority=0)) as process:
        for number in range(0, 2 * SIDE, 2):
            record = msgspec.json.decode((scenes / f"scene_{number}.json").read_bytes(), type=SceneRecord)
            true = interval(scene_answers(record, CRASH)["crash_interval"])
            spoken = list(explain_file(process, scenes / f"scene_{number}.mp4", ["crash_interval"]))
            said = answers_of(spoken)["crash_interval"]
            assert true is not None
            assert isinstance(said.lo, tuple)
            assert isinstance(said.hi, tuple)
            inside += all(a - 1e-6 <= y <= b + 1e-6 for a, y, b in zip(said.lo, true, said.hi, strict=True))
    assert inside == SIDE


def test_where_the_student_knows_more_answers_are_given_with_it(
    asking: Bundle, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video LLM that knows nothing beside a student that is told the truth of scenes whose pictures know nothing."""
    from edge_sdk.explaining import ReasonerSettings, ask_file

    monkeypatch.setattr(answers, "_watch", truthful)
    report = calibrate_answers(asking.folder, scenes, tmp_path / "out", quiet=True)
    both = report.tasks["recognition"].with_student
    assert both.right == 1.0 > report.tasks["recognition"].right
    assert both.fit.student_weight > 0
    # This vocabulary spells "Yes" in bytes: texts have begun before there is a verdict, and stay the model's own.
    assert report.tasks["cause"].with_student is None
    assert report.tasks["pre_crash_time"].with_student is None
    assert "with the student: 8 answers, 100% right" in describe_answers(report)
    made, plain = open_bundle(tmp_path / "out"), ReasonerSettings(priority=0)
    told = json.loads((made.folder / "calibration/answers.json").read_text())
    assert told["tasks"]["recognition"]["with_student"]["fit"]["student_weight"] == both.fit.student_weight
    for number in (0, 1):
        path = scenes / f"scene_{number}"
        seen = seen_of(read_record(path.with_suffix(".json")))
        score = 0.1 if number else 0.9
        tasks = ("cause", "recognition", "crash_interval")
        said = ask_file(made, path.with_suffix(".mp4"), tasks, settings=plain, events=seen, evidence=score).answers
        assert said["recognition"].value is (number == 0)
        assert said["recognition"].with_student
        assert not said["cause"].with_student
        assert said["recognition"].probability == pytest.approx(_fused(made, path.with_suffix(".mp4"), score), abs=1e-4)
        assert said["crash_interval"].with_student is (number == 0)
        alone = ask_file(made, path.with_suffix(".mp4"), tasks, settings=plain).answers
        assert not any(each.with_student for each in alone.values())


def _fused(made: Bundle, clip: Path, score: float) -> float:
    """The probability of the likelier word, from the model's own and the student's, by the manifest's numbers."""
    from edge_sdk.explaining import ReasonerSettings, ask_file

    language = made.manifest.language
    assert language is not None
    (calibration,) = [each.calibration for each in language.adapters.values() if "recognition" in each.tasks]
    assert calibration is not None
    both = calibration["recognition"].with_student
    assert isinstance(both, FusedFit)
    bare = calibration["recognition"]
    own = ask_file(made, clip, ["recognition"], settings=ReasonerSettings(priority=0)).answers["recognition"]
    assert own.probability is not None
    yes = own.probability if own.value else 1 - own.probability
    odds = (math.log(yes / (1 - yes)) - bare.offset) / bare.scale
    joined = both.scale * odds + both.student_weight * math.log(score / (1 - score)) + both.offset
    return 1 / (1 + math.exp(-abs(joined)))


def truthful(bundle: Bundle, clip: LabelledClip, *_: object) -> AnalysedClip:
    """What a student that knows the truth would make of a clip."""
    assert clip.record is not None
    found = analyze(clip.path, bundle)
    analysis = msgspec.structs.replace(found.analysis, events=seen_of(clip.record))
    return found._replace(analysis=analysis, evidence=0.9 if clip.crash else 0.1)


def seen_of(record: SceneRecord) -> tuple[Event, ...]:
    """One closed event at the record's own times; none of a scene without a crash."""
    if record.crash_start_s is None or record.crash_end_s is None:
        return ()
    start, end = (Estimate(t=t, lo=t - 0.05, hi=t + 0.05) for t in (record.crash_start_s, record.crash_end_s))
    line = CrashTimeline(crash_start=start, crash_end=end)
    return (msgspec.structs.replace(event("seen", "closed"), timeline=line),)


def test_what_is_judged_is_what_the_device_says(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CrashChat-mini beside a student that knows the truth: texts under its verdict, as they are given afterwards."""
    from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, answers_of, explain_file

    monkeypatch.setattr(answers, "_watch", truthful)
    report = calibrate_answers(default_bundle(), scenes, tmp_path / "out", quiet=True)
    kept = {task for task in ("description", "cause", "prevention") if report.tasks[task].with_student is not None}
    assert kept
    right: dict[str, list[tuple[float, bool]]] = {task: [] for task in kept}
    clips = read_scenes(scenes)
    with ReasonerProcess(open_bundle(tmp_path / "out"), ReasonerSettings(priority=0)) as process:
        for clip, weight in zip(clips, mix_weights(clips), strict=True):
            assert clip.record is not None
            score = 0.9 if clip.crash else 0.1
            tasks = ("recognition", "description", "cause", "prevention")
            spoken = explain_file(process, clip.path, tasks, events=seen_of(clip.record), evidence=score)
            said = answers_of(list(spoken))
            truth = scene_answers(clip.record, CRASH if clip.crash else SceneTruth())
            for task in kept:
                assert said[task].with_student
                same = said[task].text.casefold().rstrip(".") == truth[task].casefold().rstrip(".")
                right[task].append((float(weight), same))
    for task, rows in right.items():
        share = sum(weight for weight, same in rows if same) / sum(weight for weight, _ in rows)
        assert report.tasks[task].with_student.right == pytest.approx(share)


def test_a_student_is_evidence_on_clips_that_have_its_pictures(asking: Bundle, scenes: Path, tmp_path: Path) -> None:
    clip = read_scenes(scenes)[0]
    found = answers._watch(asking, clip, "ort", SessionOptions(threads=1))
    assert found is not None
    assert found.analysis.frames.analysed == 5
    assert found.evidence == found.analysis.crash.score
    slow = make_clip(tmp_path / "slow.mp4", seconds=1.0, rate="4", size=(96, 64))
    assert analyze(slow, asking).evidence is None
    alone = msgspec.structs.replace(asking, manifest=msgspec.structs.replace(asking.manifest, student=None))
    assert answers._watch(alone, clip, "ort", 1) is None


def test_what_cannot_be_fitted_is_one_error(asking: Bundle, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        calibrate_answers(asking.folder, scenes, scenes, quiet=True)
    with pytest.raises(BundleError, match="no language part"):
        calibrate_answers(watching().folder, scenes, tmp_path / "out", quiet=True)
    few = tmp_path / "few"
    few.mkdir()
    for name in ("scene_0", "scene_1"):
        for end in ("json", "mp4"):
            (few / f"{name}.{end}").write_bytes((scenes / f"{name}.{end}").read_bytes())
    with pytest.raises(ConfigError, match="at least 4 scenes with a crash and as many without"):
        calibrate_answers(asking.folder, few, tmp_path / "out", quiet=True)


def test_the_command_line_fits_too(
    asking: Bundle, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["calibrate", str(asking.folder), "--clips", str(scenes), "--out", str(tmp_path / "out"), "--answers"]
    monkeypatch.setattr(sys, "argv", ["edge-sdk", *words, "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["tasks"]["recognition"]["fit"]["abstain_below"] == 0.5
    assert open_bundle(tmp_path / "out").manifest.language is not None
