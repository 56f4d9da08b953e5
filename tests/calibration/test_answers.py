"""From rendered scenes to a bundle that knows what its answers are worth, with a tiny video LLM that knows nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from asking_bundles import make_asking, watching
from asking_clips import make_clip
from scene_records import scene_record

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.calibration import answer_fits, answers
from edge_sdk.cli import main
from edge_sdk.clips import SceneRecord, SceneTruth
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.evaluation.tasks.parse import interval
from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.reasoning.forms.scores import calibrated
from edge_sdk.toolchain.calibrating import calibrate_answers

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
