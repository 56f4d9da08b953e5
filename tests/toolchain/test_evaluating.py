"""Clips of annotations answered by a bundle and scored, against `analyze` on each clip and a file of what it said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asking_bundles import make_asking, watching
from asking_clips import make_clip
from command_line import last_json, sdk
from demo_pictures import CLIP
from typer.testing import CliRunner

from edge_sdk.analysis import analyze
from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.manifest_language import AnswerCalibration, FusedFit
from edge_sdk.cli import main  # noqa: F401 - importing it gives the app its verbs
from edge_sdk.cli.app import app
from edge_sdk.errors import ConfigError, SourceError
from edge_sdk.evaluation.tasks import Annotations, TasksReport, Truth, evaluate_files, read_predictions
from edge_sdk.explaining import ReasonerSettings, ask_file
from edge_sdk.tasks import TASK_IDS, find_task, in_words
from edge_sdk.toolchain.clip_answers import STUDENT_TASKS, student_answers
from edge_sdk.toolchain.evaluating import evaluate_clips, find_clips

CRASH, OTHER = "cap_1_000001.mp4", "d2city_1_0001.mp4"
SAID = {
    "recognition": "Yes",
    "description": "ego-car hits a car",
    "cause": "Vehicles do not give way.",
    "prevention": "Drivers should give way.",
    "crash_interval": "3.0 - 6.0 seconds",
    "pre_crash_time": "2.0 seconds",
}
# On a busy machine a patient process waits for minutes.
PROMPT = ReasonerSettings(priority=0)
NOTHING_SEEN = {"recognition": "No", "crash_interval": "", "pre_crash_time": ""}


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_asking(tmp_path_factory.mktemp("asking"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's crash in a folder within, as in the data set, and a clip without one in another container."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "videos").mkdir()
    shutil.copy(CLIP, folder / "videos" / CRASH)
    make_clip(folder / Path(OTHER).with_suffix(".mkv").name, seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both clips in CrashChat's layout, one file a task; only the crash has times."""
    folder = tmp_path_factory.mktemp("annotations")
    for task, answer in SAID.items():
        right = {CRASH: answer, OTHER: find_task(task).negative}
        asked = {"from": "human", "value": f"<video>\n{find_task(task).prompt}"}
        rows = [
            {"video": [f"videos/{video}"], "conversations": [asked, {"from": "gpt", "value": said}], "source": "x"}
            for video, said in right.items()
            if said is not None
        ]
        (folder / f"{task}.json").write_text(json.dumps(rows))
    return folder


# Any: a row of JSON.
def analysed(clip: Path, bundle: Bundle) -> dict[str, Any]:
    """What `analyze` says of a clip, as one would write it down by hand."""
    found = analyze(clip, bundle, tasks=None, reasoning=PROMPT)
    report = found.analysis
    assert report.answers is not None
    assert report.crash.calibrated
    return {task: in_words(answer.value, answer.text) for task, answer in report.answers.items()} | {
        "crash_probability": report.crash.score,
        "alarms_s": found.alarms_s,
        "duration_s": report.source.duration_s,
    }


# Any: a JSON document.
def plain(report: TasksReport) -> Any:
    return json.loads(msgspec.json.encode(report))


def test_clips_score_as_what_analyze_says_of_each(
    annotations: Path, clips: Path, asking: Bundle, tmp_path: Path
) -> None:
    by_hand, kept = tmp_path / "by-hand.json", tmp_path / "kept.json"
    other = clips / Path(OTHER).with_suffix(".mkv").name
    by_hand.write_text(json.dumps({CRASH: analysed(clips / "videos" / CRASH, asking), OTHER: analysed(other, asking)}))
    words = ("--annotations", str(annotations), "--clips", str(clips), "--bundle", str(asking.folder))
    found = last_json(sdk("evaluate", *words, "--out-predictions", str(kept), "--bootstrap", "20", "--json"))
    assert plain(evaluate_files(annotations, kept, bootstrap=20)) == found
    expected = plain(evaluate_files(annotations, by_hand, bootstrap=20))
    (own,) = set(found.pop("notes")) - set(expected.pop("notes"))
    assert own.startswith(f"Answers of bundle asking ({asking.sha256[:12]}) by ort on cpu")
    assert found == expected
    assert [task["task"] for task in found["tasks"]] == list(TASK_IDS)
    assert found["alarms"][0]["delay"]["recall"]["n"] == 1
    assert found["calibration"]["clips"] == 2


def test_a_run_that_was_stopped_asks_only_about_what_is_left(
    annotations: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    evaluate_clips(annotations, clips, watching().folder, out=kept, bootstrap=0, quiet=True)
    whole = json.loads(kept.read_text())
    changed = whole[CRASH] | {"pre_crash_time": "Not asked again."}
    kept.write_text(json.dumps({CRASH: changed}))
    evaluate_clips(annotations, clips, watching().folder, out=kept, bootstrap=0)
    shown = capsys.readouterr().err
    assert "clips 1/1" in shown
    assert "(1 were answered before)" in shown
    assert json.loads(kept.read_text()) == {CRASH: changed, OTHER: whole[OTHER]}


def test_a_broken_clip_stops_nothing_and_is_tried_again_when_it_is_whole(
    annotations: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kept = tmp_path / "clips", tmp_path / "kept.json"
    shutil.copytree(clips, folder)
    broken = folder / "videos" / CRASH
    whole = broken.read_bytes()
    broken.write_bytes(b"no video at all" * 100)
    report = evaluate_clips(annotations, folder, watching().folder, out=kept, bootstrap=0)
    (note,) = [note for note in report.notes if "could not be read" in note]
    assert note.startswith("1 clips could not be read: they count as not answered, ")
    assert f"the first is {CRASH}: " in note
    assert CRASH in capsys.readouterr().err
    cells = report.tasks[0].confusion
    assert cells is not None
    assert (cells.tp, cells.fn, cells.tn) == (0, 1, 1)
    broken.write_bytes(whole)
    mended = evaluate_clips(annotations, folder, watching().folder, out=kept, bootstrap=0)
    assert "clips 1/1" in capsys.readouterr().err
    assert not any("could not be read" in note for note in mended.notes)
    assert read_predictions(kept)[CRASH].recognition == "Yes"


def test_a_clip_of_another_content_is_asked_again(annotations: Path, clips: Path, tmp_path: Path) -> None:
    folder, kept = tmp_path / "clips", tmp_path / "kept.json"
    shutil.copytree(clips, folder)
    evaluate_clips(annotations, folder, watching().folder, out=kept, bootstrap=0, quiet=True)
    assert read_predictions(kept)[CRASH].recognition == "Yes"
    shutil.copy(folder / Path(OTHER).with_suffix(".mkv").name, folder / "videos" / CRASH)
    evaluate_clips(annotations, folder, watching().folder, out=kept, bootstrap=0, quiet=True)
    assert read_predictions(kept)[CRASH].recognition == "No"


def test_where_no_clip_can_be_read_that_is_the_error(annotations: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    for path in (tmp_path / "clips").rglob("*.m*"):
        path.write_bytes(b"nothing")
    with pytest.raises(SourceError, match="none of 2 clips could be read; the first: "):
        evaluate_clips(annotations, tmp_path / "clips", watching().folder, bootstrap=0, quiet=True)


def test_a_student_alone_answers_what_it_finds(annotations: Path, clips: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    report = evaluate_clips(annotations, clips, watching().folder, out=kept, bootstrap=0, quiet=True)
    assert [each.task for each in report.tasks] == list(STUDENT_TASKS)
    assert any("has no language part" in note for note in report.notes)
    cells = report.tasks[0].confusion
    assert cells is not None
    assert (cells.tp, cells.tn) == (1, 1)
    (event,) = analyze(CLIP, watching()).analysis.events
    start, end = event.timeline.crash_start, event.timeline.crash_end
    assert start is not None
    assert end is not None
    row = read_predictions(kept)[CRASH]
    assert row.crash_interval == f"{start.t:.1f} - {end.t:.1f} seconds"
    assert student_answers([]) == NOTHING_SEEN


def test_a_bundle_without_a_student_brings_no_alarms(annotations: Path, clips: Path, tmp_path: Path) -> None:
    bundle, kept = make_asking(tmp_path, student=False), tmp_path / "kept.json"
    alone = tmp_path / "one.json"
    rows = json.loads((annotations / "recognition.json").read_text())
    alone.write_text(json.dumps([row for row in rows if OTHER in row["video"][0]]))
    report = evaluate_clips(alone, clips, bundle.folder, out=kept, settings=PROMPT, bootstrap=0, quiet=True)
    assert [each.task for each in report.tasks] == ["recognition"]
    row = read_predictions(kept)[OTHER]
    assert (row.alarms_s, row.duration_s) == (None, pytest.approx(0.5, abs=0.05))
    other = clips / Path(OTHER).with_suffix(".mkv").name
    said = ask_file(bundle, other, ["recognition"], settings=PROMPT).answers["recognition"]
    assert said.probability is not None
    assert row.crash_probability == pytest.approx(said.probability if said.value else 1 - said.probability)


def test_where_a_bundle_answers_with_its_student_the_probability_is_of_both(
    annotations: Path, clips: Path, asking: Bundle, tmp_path: Path
) -> None:
    language, kept = asking.manifest.language, tmp_path / "kept.json"
    assert language is not None
    fit = {"recognition": AnswerCalibration(with_student=FusedFit(scale=0.5, student_weight=0.7))}
    adapters = {
        name: msgspec.structs.replace(each, calibration=fit if "recognition" in each.tasks else None)
        for name, each in language.adapters.items()
    }
    both = rewrite(asking, tmp_path / "both", language=msgspec.structs.replace(language, adapters=adapters))
    evaluate_clips(annotations / "recognition.json", clips, both.folder, out=kept, bootstrap=0, quiet=True)
    found = analyze(clips / "videos" / CRASH, both, tasks=["recognition"], reasoning=PROMPT).analysis
    assert found.answers is not None
    said, row = found.answers["recognition"], read_predictions(kept)[CRASH]
    assert said.with_student
    assert said.probability is not None
    assert row.crash_probability == pytest.approx(said.probability if said.value else 1 - said.probability)
    assert row.crash_probability != pytest.approx(found.crash.score)
    assert row.recognition == ("Yes" if said.value else "No")


def test_it_takes_one_side_and_whole_folders(annotations: Path, clips: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({CRASH: {"recognition": "Yes"}}))
    for options, told in (
        ((), "found neither"),
        (("--clips", str(clips), "--predictions", str(kept)), "found both"),
        (("--predictions", str(kept), "--bundle", "b", "--threads", "0"), "--bundle, --threads would have no effect"),
        (("--clips", str(tmp_path)), f"lacks 2 of 2 annotated clips, the first is {CRASH}"),
        (("--clips", str(clips), "--out-predictions", str(kept)), f"found those of no bundle for {CRASH}"),
        (("--clips", str(clips), "--seed", "-1"), "of at least 0, found -1"),
    ):
        failed = CliRunner().invoke(app, ["evaluate", "--annotations", str(annotations), *options])
        assert isinstance(failed.exception, ConfigError), failed.output
        assert "\n" not in str(failed.exception)
        assert told in str(failed.exception)
        assert not failed.output


def test_what_the_annotations_lack_is_told_before_anything_is_asked(clips: Path, tmp_path: Path) -> None:
    asked = {"from": "human", "value": find_task("pre_crash_time").prompt}
    alone = tmp_path / "alone.json"
    alone.write_text(
        json.dumps([{"video": [CRASH], "conversations": [asked, {"from": "gpt", "value": "2.0 seconds"}]}])
    )
    kept = tmp_path / "kept.json"
    with pytest.raises(ConfigError, match="crash_interval as well"):
        evaluate_clips(alone, clips, watching().folder, out=kept, quiet=True)
    assert not kept.exists()


def test_a_label_that_cannot_be_read_is_told_before_anything_is_asked(clips: Path, tmp_path: Path) -> None:
    truths = {
        "recognition": ["Yes", "No", "unclear"],
        "crash_interval": ["1.0 - 2.0 seconds", "2.0 - 3.0 seconds", "5 s"],
    }
    for task, answers in truths.items():
        asked = {"from": "human", "value": find_task(task).prompt}
        rows = [
            {"video": [video], "conversations": [asked, {"from": "gpt", "value": said}]}
            for video, said in zip((CRASH, OTHER, "third.mp4"), answers, strict=True)
        ]
        (tmp_path / "annotations.json").write_text(json.dumps(rows))
        folder, out = tmp_path / task, tmp_path / "out.json"
        shutil.copytree(clips, folder)
        shutil.copy(CLIP, folder / "third.mp4")
        with pytest.raises(ConfigError, match=rf"{task} for third\.mp4 cannot be read: '{answers[-1]}'"):
            evaluate_clips(tmp_path / "annotations.json", folder, out=out, quiet=True)
        assert not out.exists()


def test_a_clip_is_found_by_its_name_and_then_by_its_stem(tmp_path: Path) -> None:
    videos = Annotations({"recognition": {name: Truth(answer="Yes", source="") for name in ("a.mp4", "b", "c.1.mp4")}})
    for name in ("a.mp4", "a.MOV", "b.MKV", "b.json", "c.1.avi"):
        (tmp_path / name).touch()
    found = find_clips(tmp_path, videos.videos)
    assert {video: path.name for video, path in found.items()} == {"a.mp4": "a.mp4", "b": "b.MKV", "c.1.mp4": "c.1.avi"}
    with pytest.raises(ConfigError, match=r"lacks 1 of 2 annotated clips, the first is z\.mp4"):
        find_clips(tmp_path, ["a.mp4", "z.mp4"])
    with pytest.raises(ConfigError, match=r"b\.MKV matches both b and b\.mp4"):
        find_clips(tmp_path, ["b", "b.mp4"])
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "a.mp4").touch()
    with pytest.raises(ConfigError, match=r"a\.mp4 could be .*a\.mp4 or .*within/a\.mp4"):
        find_clips(tmp_path, ["a.mp4"])
    with pytest.raises(ConfigError, match="is not a folder"):
        find_clips(tmp_path / "none", ["a.mp4"])
