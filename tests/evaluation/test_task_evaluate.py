"""The whole evaluation: answers in, tables out, by the function and by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import sdk

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks import (
    Annotations,
    Line,
    TaskReport,
    TasksReport,
    Truth,
    VideoAnswers,
    evaluate_files,
    evaluate_tasks,
    to_markdown,
)
from edge_sdk.tasks import TASK_IDS, find_task

CRASHES, OTHERS = 6, 4
CAUSE = "Vehicles do not give way."


def truths() -> dict[str, dict[str, str]]:
    """Right answers of ten clips by task; the crash of clip 5 is labelled with no length."""
    crashes, others = [f"c{i}.mp4" for i in range(CRASHES)], [f"n{i}.mp4" for i in range(OTHERS)]
    said = {
        "recognition": "Yes",
        "description": "car hits car",
        "cause": CAUSE,
        "prevention": "Drivers should slow down and give way.",
    }
    found = {task: dict.fromkeys(crashes, answer) for task, answer in said.items()}
    for task, answers in found.items():
        answers |= dict.fromkeys(others, find_task(task).negative or "")
    found["crash_interval"] = {video: f"{3 + i}.0 - {5 + i}.0 seconds" for i, video in enumerate(crashes)}
    found["crash_interval"]["c5.mp4"] = "8.0 - 8.0 seconds"
    found["pre_crash_time"] = {video: f"{1 + i}.5 seconds" for i, video in enumerate(crashes)}
    return found


def annotations(source: bool = True) -> Annotations:
    rows = truths()
    return Annotations(
        {
            task: {v: Truth(answer=a, source=("CAP" if v[0] == "c" else "City") * source) for v, a in answers.items()}
            for task, answers in rows.items()
        }
    )


def perfect() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for task, answers in truths().items():
        for video, answer in answers.items():
            rows.setdefault(video, {})[task] = answer
    return rows


def answers(rows: dict[str, dict[str, Any]]) -> dict[str, VideoAnswers]:
    return {video: VideoAnswers(**row) for video, row in rows.items()}


def task_of(report: TasksReport, task: str) -> TaskReport:
    return next(each for each in report.tasks if each.task == task)


def line(report: TasksReport, task: str, name: str) -> Line:
    return next(each for each in task_of(report, task).lines if each.name == name)


def value(report: TasksReport, task: str, name: str, score: str) -> float | None:
    return line(report, task, name).scores[score].value


@pytest.fixture(scope="module")
def spoilt() -> TasksReport:
    """Right answers, but for one mumbled verdict, one missing cause, one unreadable interval and one time."""
    rows = perfect()
    rows["c0.mp4"]["recognition"] = "Yes, the car did not stop"
    rows["n0.mp4"]["recognition"] = "Cars move, a collision is not to be seen; yes?"
    rows["n1.mp4"]["recognition"] = "I cannot tell"
    del rows["c1.mp4"]["cause"]
    rows["c2.mp4"]["description"] = " "
    rows["c3.mp4"]["crash_interval"] = "no idea"
    rows["c4.mp4"]["pre_crash_time"] = "soon"
    rows["c0.mp4"]["scores"] = {"cause": {"bertscore_f1": 0.9}}
    rows["c1.mp4"]["scores"] = {"cause": {"bertscore_f1": 0.7}}
    return evaluate_tasks(annotations(), answers(rows), bootstrap=100)


def test_right_answers_are_perfect_in_every_task() -> None:
    report = evaluate_tasks(annotations(), answers(perfect()), bootstrap=50)
    assert [each.task for each in report.tasks] == list(TASK_IDS)
    for task, score in (
        ("recognition", "macro_f1"),
        ("description", "rouge1_f"),
        ("cause", "bleu4"),
        ("prevention", "exact"),
        ("crash_interval", "miou"),
        ("pre_crash_time", "miou"),
    ):
        assert value(report, task, "answers, repaired", score) == pytest.approx(1.0)
        assert task_of(report, task).dropped == task_of(report, task).missing == 0
    # The reference gives nothing for a crash of no length, even to the right answer.
    assert value(report, "crash_interval", "answers, reference's rules", "miou") == pytest.approx(5 / 6)
    assert task_of(report, "crash_interval").unscorable == 1


def test_the_reference_drops_what_it_cannot_read_and_the_repaired_form_does_not(spoilt: TasksReport) -> None:
    recognition = task_of(spoilt, "recognition")
    plain, repaired = (line(spoilt, "recognition", f"answers, {how}") for how in ("reference's rules", "repaired"))
    assert (recognition.dropped, plain.clips, repaired.clips) == (2, 8, 10)
    # It takes "cannot" for a no, which here is right.
    assert plain.scores["accuracy"].value == 1.0
    # "Yes, ..." is a yes; the two that say neither are wrong.
    assert repaired.scores["accuracy"].value == pytest.approx(0.8)
    assert recognition.confusion is not None
    cells = recognition.confusion
    assert (cells.tp, cells.fn, cells.fp, cells.tn) == (6, 0, 2, 2)
    assert [repaired.scores[f"no_{name}"].value for name in ("precision", "recall")] == [1.0, 0.5]
    assert "| precision of no | F1 of no |" in to_markdown(spoilt)


def test_missing_and_empty_texts_count_as_wrong(spoilt: TasksReport) -> None:
    cause, description = task_of(spoilt, "cause"), task_of(spoilt, "description")
    assert (cause.missing, cause.dropped, description.missing, description.dropped) == (1, 0, 0, 1)
    assert value(spoilt, "cause", "answers, reference's rules", "rouge1_f") == pytest.approx(1.0)
    assert value(spoilt, "cause", "answers, repaired", "rouge1_f") == pytest.approx(9 / 10)
    assert value(spoilt, "cause", "answers, repaired, crashes only", "rouge1_f") == pytest.approx(5 / 6)


def test_unreadable_times_count_as_wrong(spoilt: TasksReport) -> None:
    assert value(spoilt, "crash_interval", "answers, reference's rules", "iou_50") == pytest.approx(4 / 6)
    assert value(spoilt, "crash_interval", "answers, repaired", "iou_50") == pytest.approx(4 / 5)
    assert task_of(spoilt, "pre_crash_time").dropped == 1
    assert value(spoilt, "pre_crash_time", "answers, reference's rules", "miou") == pytest.approx(1.0)
    assert value(spoilt, "pre_crash_time", "answers, repaired", "miou") == pytest.approx(5 / 6)


def test_scores_of_ones_own_are_averaged_beside(spoilt: TasksReport) -> None:
    assert value(spoilt, "cause", "answers, repaired", "bertscore_f1") == pytest.approx(0.8)
    rows = perfect()
    rows["c0.mp4"]["scores"] = {"cause": {"bleu4": 1.0}}
    with pytest.raises(ConfigError, match="'bleu4'"):
        evaluate_tasks(annotations(), answers(rows), bootstrap=0)


def test_blind_answers_stand_beside(spoilt: TasksReport) -> None:
    assert value(spoilt, "recognition", "blind: always 'Yes'", "accuracy") == pytest.approx(0.6)
    best = line(spoilt, "cause", "blind: best constant")
    assert best.answers["exact"] == CAUSE
    assert best.scores["exact"].value == pytest.approx(0.6)
    assert value(spoilt, "cause", "blind: right yes/no, best constant", "exact") == pytest.approx(1.0)
    interval = next(each for each in task_of(spoilt, "crash_interval").lines if each.kind == "blind")
    assert 0 < (interval.scores["miou"].value or 0) < 1


def test_blind_answers_are_chosen_elsewhere_where_asked() -> None:
    other = Annotations({"crash_interval": {"z.mp4": Truth(answer="20.0 - 21.0 seconds", source="")}})
    report = evaluate_tasks(annotations(), answers(perfect()), fitted=other, bootstrap=0)
    assert value(report, "crash_interval", "blind: always '20.0 - 21.0 seconds'", "miou") == 0.0
    assert not [each for each in task_of(report, "cause").lines if each.kind == "blind"]
    assert not any("upper bounds" in note for note in report.notes)
    assert any("upper bounds" in note for note in evaluate_tasks(annotations(), answers(perfect()), bootstrap=0).notes)


def test_the_papers_lines_stand_beside(spoilt: TasksReport) -> None:
    found = value(spoilt, "crash_interval", "paper: CrashChat-7B, homogeneous", "miou")
    assert found == 0.5456
    assert len([each for each in task_of(spoilt, "cause").lines if each.name.startswith("paper: ")]) == 8


def test_conditions_divide_the_clips_and_one_class_has_accuracy_only() -> None:
    conditions = {video: {"light": "night" if "1" in video else "day"} for video in annotations().videos}
    report = evaluate_tasks(annotations(), answers(perfect()), conditions=conditions, bootstrap=0)
    night = line(report, "recognition", "answers, repaired, light night")
    assert (night.clips, night.scores["macro_f1"].value) == (2, 1.0)
    assert line(report, "cause", "answers, repaired, crashes only, light day").clips == 5
    assert set(line(report, "recognition", "answers, repaired, source CAP").scores) == {"accuracy"}
    # All texts about crashes come from one source, which therefore divides nothing.
    assert not any("source" in each.name for each in task_of(report, "cause").lines)
    assert any("recognising those" in note for note in report.notes)
    bare = evaluate_tasks(annotations(source=False), answers(perfect()), bootstrap=0)
    assert not any("recognising those" in note for note in bare.notes)


def test_alarms_and_probabilities_bring_their_own_tables() -> None:
    rows = perfect()
    for video, row in rows.items():
        row |= {"duration_s": 60.0, "crash_probability": 0.9 if video[0] == "c" else 0.1}
    rows["n0.mp4"]["recognition"] = "Yes"
    rows["n1.mp4"]["alarms_s"] = [1.0, 2.0]
    rows["c0.mp4"]["alarms_s"] = [3.4]
    del rows["c5.mp4"]["duration_s"]
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=50)
    everything = report.alarms[0]
    # Of c0 the time before 0.0 s, 1.5 s before its sign at 1.5 s, is free of alarms: none at all.
    assert (everything.name, everything.clips, everything.left_out) == ("all", 9, 1)
    assert (everything.false_alarms.count, everything.false_alarms.hours) == (3, pytest.approx(4 / 60))
    assert everything.delay is not None
    assert everything.delay.median_s == pytest.approx(0.4)
    assert {each.name for each in report.alarms[1:]} == {"source CAP", "source City"}
    assert report.calibration is not None
    assert report.calibration.brier.value == pytest.approx(0.01)
    assert report.calibration.ece.value == pytest.approx(0.1)
    text = to_markdown(report)
    assert "| all | 9 | 3 | 4.0 | 45.0 (9.3-131.5) |" in text
    assert "### calibration" in text


def test_alarms_of_unknown_length_keep_their_delay_and_are_told() -> None:
    rows = perfect()
    rows["c0.mp4"]["alarms_s"] = [3.4]
    rows["n0.mp4"]["alarms_s"] = [9.0]
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=0)
    everything = report.alarms[0]
    assert (everything.clips, everything.left_out) == (1, 9)
    assert (everything.false_alarms.hours, everything.false_alarms.per_hour) == (0.0, None)
    assert everything.delay is not None
    assert everything.delay.median_s == pytest.approx(0.4)
    assert "2 clips have `alarms_s` but no `duration_s`" in to_markdown(report)
    rows["c0.mp4"]["duration_s"] = rows["n0.mp4"]["duration_s"] = 10.0
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=0)
    assert report.alarms[0].false_alarms.count == 1
    assert not any("duration_s" in note for note in report.notes)


def test_a_probability_alone_is_enough_for_calibration() -> None:
    rows = {video: {"crash_probability": 0.9 if video[0] == "c" else 0.2} for video in perfect()}
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=0)
    assert report.tasks == ()
    assert report.calibration is not None
    assert report.calibration.brier.value == pytest.approx(0.6 * 0.1**2 + 0.4 * 0.2**2)
    assert "### calibration" in to_markdown(report)


def test_scores_of_ones_own_are_shown_whatever_they_are_called() -> None:
    rows = perfect()
    for row in rows.values():
        row["scores"] = {"recognition": {"judge_precision": 0.25}, "cause": {"bertscore_recall": 0.75}}
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=0)
    text = to_markdown(report)
    assert all(name in text for name in ("judge_precision", "bertscore_recall"))
    assert "rouge1_precision" not in text
    of_crashes = line(report, "recognition", "answers, repaired, source CAP").scores
    assert {name: each.value for name, each in of_crashes.items()} == {"accuracy": 1.0, "judge_precision": 0.25}


def test_an_upper_bound_that_is_none_is_not_called_one() -> None:
    def note(different: int) -> str:
        causes = {f"c{i}.mp4": Truth(answer=f"Cause {i}.", source="") for i in range(different)}
        said = {"c0.mp4": VideoAnswers(cause="Cause 0.")}
        notes = evaluate_tasks(Annotations({"cause": causes}), said, bootstrap=0).notes
        return next(each for each in notes if "upper bounds" in each)

    assert "commonest" not in note(30)
    assert "only the 20 commonest were tried" in note(121)


def test_some_tasks_are_enough_and_none_is_not() -> None:
    rows = {video: {"recognition": row["recognition"]} for video, row in perfect().items()}
    rows["elsewhere.mp4"] = {"recognition": "Yes"}
    report = evaluate_tasks(annotations(), answers(rows), bootstrap=0)
    assert [each.task for each in report.tasks] == ["recognition"]
    assert report.unknown == 1
    with pytest.raises(ConfigError, match="no annotated video has an answer"):
        evaluate_tasks(annotations(), answers({"elsewhere.mp4": {"recognition": "Yes"}}))


def test_warning_times_need_crash_starts() -> None:
    alone = Annotations({"pre_crash_time": annotations().of("pre_crash_time")})
    with pytest.raises(ConfigError, match="crash_interval as well"):
        evaluate_tasks(alone, answers(perfect()))


def test_a_label_that_cannot_be_read_is_an_error() -> None:
    odd = Annotations({"recognition": {"c0.mp4": Truth(answer="maybe", source="")}})
    with pytest.raises(ConfigError, match=r"c0\.mp4 cannot be read: 'maybe'"):
        evaluate_tasks(odd, answers(perfect()))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The ten clips in CrashChat's layout, one file a task, and right answers to them."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    for task, rows in truths().items():
        asked = {"from": "human", "value": f"<video>\n{find_task(task).prompt}"}
        items = [
            {"video": [f"videos/{v}"], "conversations": [asked, {"from": "gpt", "value": a}], "source": "x"}
            for v, a in rows.items()
        ]
        (folder / f"{task}.json").write_text(json.dumps(items))
    said = tmp_path / "said.json"
    said.write_text(json.dumps({f"clips/{video}": row for video, row in perfect().items()}))
    return folder, said


def test_scene_records_bring_conditions_and_lengths(files: tuple[Path, Path], tmp_path: Path) -> None:
    record = next((Path(__file__).parents[2] / "edge_sdk/bundles/demo/demo").glob("*.json"))
    records = tmp_path / "records"
    records.mkdir()
    plain = json.loads(record.read_text())
    for i, video in enumerate(["c0", "c1", "n0", "n1"]):
        weather = "rain" if i % 2 else "clear"
        known = plain | {"name": video, "duration_s": 30.0, "weather": weather}
        (records / f"{video}.json").write_text(json.dumps(known))
    report = evaluate_files(*files, records=records, bootstrap=0)
    rain = line(report, "recognition", "answers, repaired, weather rain")
    assert (rain.clips, rain.scores["accuracy"].value) == (2, 1.0)
    assert report.alarms[0].false_alarms.hours == pytest.approx(60 / 3600)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="no scene record"):
        evaluate_files(*files, records=empty, bootstrap=0)


def test_the_command_prints_six_tables_or_one_document(files: tuple[Path, Path]) -> None:
    words = ["--annotations", str(files[0]), "--predictions", str(files[1]), "--bootstrap", "20"]
    shown, document = sdk("evaluate", *words), sdk("evaluate", *words, "--json")
    assert shown.returncode == 0, shown.stderr
    assert [text for text in shown.stdout.splitlines() if text.startswith("### ")] == [f"### {t}" for t in TASK_IDS]
    assert "paper: CrashChat-7B, heterogeneous |  | 0.975 | 0.985 | 0.979" in shown.stdout
    found = json.loads(document.stdout.splitlines()[-1])
    assert (found["schema"], found["videos"], len(found["tasks"])) == (1, 10, 6)


def test_importing_it_loads_no_package_for_texts() -> None:
    code = "import sys, edge_sdk.evaluation.tasks; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "edge_sdk.evaluation.tasks.text" in loaded
    assert not {"nltk", "rouge_score"} & set(loaded)


def test_the_command_leaves_with_2_on_a_file_that_is_not_there(files: tuple[Path, Path], tmp_path: Path) -> None:
    failed = sdk("evaluate", "--annotations", str(files[0]), "--predictions", str(tmp_path / "none.json"))
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "cannot read predictions" in failed.stderr


def test_a_negative_seed_is_refused_in_one_line(files: tuple[Path, Path]) -> None:
    words = ["--annotations", str(files[0]), "--predictions", str(files[1])]
    failed = sdk("evaluate", *words, "--seed", "-1")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1
    assert "of at least 0, found -1" in failed.stderr
