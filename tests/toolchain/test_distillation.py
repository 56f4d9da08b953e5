"""What is refused before any work is done."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from asking_bundles import watching
from scene_records import scene_record

from edge_sdk.bundle import open_bundle
from edge_sdk.calibration.scenes.families import find_family
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.toolchain.distillation import clips_of, make_student, refit, tune_student
from edge_sdk.toolchain.seen_scenes import trained_on

SDK = Path(__file__).parents[2] / "edge_sdk"


def test_a_bundle_that_exists_is_refused_before_clips_are_read_or_rendered(tmp_path: Path) -> None:
    nowhere = tmp_path / "no clips"
    for start in (
        lambda: make_student("student", tmp_path, tmp_path),
        lambda: tune_student(None, nowhere, nowhere, tmp_path, tmp_path),
        lambda: refit(None, nowhere, tmp_path),
    ):
        with pytest.raises(ConfigError, match=r"exists already; choose another folder or remove it"):
            start()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("crashes", "others"), [(10, 9), (20, 0), (0, 20)])
def test_clips_that_no_operating_point_can_be_fitted_on_are_refused_before_training(
    tmp_path: Path, crashes: int, others: int
) -> None:
    for folder, kinds in (("training", "yn"), ("validation", "y" * crashes + "n" * others)):
        (tmp_path / folder).mkdir()
        rows = ["clip,view,crash,crash_start_s,crash_end_s,group"]
        for number, kind in enumerate(kinds):
            (tmp_path / folder / f"{number}.mp4").write_text(f"{folder} {number}")
            crash = "yes,2.0,3.0" if kind == "y" else "no,,"
            rows.append(f"{number}.mp4,dashcam,{crash},{folder}{number}")
        (tmp_path / folder / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match=f"at least 20 clips.*found {crashes + others} clips, {crashes} crashes"):
        tune_student(None, tmp_path / "training", tmp_path / "validation", tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def tune_with_more(folder: Path) -> None:
    """On `own`, calibrated on `held`, beside what nobody has labelled in `more`."""
    own, held, out, work = (folder / name for name in ("own", "held", "out", "work"))
    tune_student(None, own, held, out, work, unlabelled=folder / "more", teacher=folder)


@pytest.mark.parametrize("table", [True, False])
def test_a_recording_that_is_calibrated_on_is_not_learnt_from_without_its_labels_either(
    tmp_path: Path, table: bool
) -> None:
    """By the groups of a label table where there is one, else by the names of the files."""
    head, shared = "clip,view,crash,crash_start_s,crash_end_s,group", {"held": "b", "more": "b"}
    for folder, group in {"own": "a", **shared}.items():
        (tmp_path / folder).mkdir()
        name = f"{folder}.mp4" if table else f"{group}.mp4"
        (tmp_path / folder / name).touch()
        if table or folder != "more":
            (tmp_path / folder / "labels.csv").write_text(f"{head}\n{name},dashcam,no,,,{group}\n")
    with pytest.raises(ConfigError, match="1 groups are in both training and held-out clips, such as 'b'"):
        tune_with_more(tmp_path)


def test_a_file_that_has_labels_elsewhere_is_not_learnt_from_without_them(tmp_path: Path) -> None:
    head = "clip,view,crash,crash_start_s,crash_end_s,group"
    for folder, name in (("own", "a"), ("held", "b"), ("more", "c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.mp4").write_bytes(b"other" if folder == "own" else b"the same")
        (tmp_path / folder / "labels.csv").write_text(
            f"{head}\n{name}.mp4,,,,,{name}\n" if folder == "more" else f"{head}\n{name}.mp4,dashcam,no,,,{name}\n"
        )
    with pytest.raises(ConfigError, match=r"clips without labels are also among the labelled clips, c\.mp4 is b\.mp4"):
        tune_with_more(tmp_path)


def test_a_file_is_not_learnt_from_and_calibrated_on_under_two_names(tmp_path: Path) -> None:
    for folder, name in (("own", "a"), ("held", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.mp4").write_bytes(b"the same")
        table = f"clip,view,crash,crash_start_s,crash_end_s,group\n{name}.mp4,dashcam,no,,,{name}\n"
        (tmp_path / folder / "labels.csv").write_text(table)
    with pytest.raises(ConfigError, match=r"1 files are in training and held-out clips: a\.mp4 is b\.mp4"):
        tune_student(None, tmp_path / "own", tmp_path / "held", tmp_path / "out", tmp_path / "work")


def test_several_processes_are_refused_where_all_would_do_the_work_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = "expected one process for the training "
    with pytest.raises(ConfigError, match=rf"{said}of the last stage alone \(--from\), found 2"):
        make_student("student-demo", tmp_path / "work", tmp_path / "out", start=tmp_path)
    with pytest.raises(ConfigError, match=f"{said}on labelled clips, found 2"):
        tune_student(None, tmp_path, tmp_path, tmp_path / "out", tmp_path / "work")


@pytest.mark.parametrize(("start", "teacher"), [(True, False), (False, True)])
def test_what_does_not_belong_to_the_recipe_is_refused_before_anything_is_rendered(
    start: bool, teacher: bool, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    given = {"start": watching().folder if start else None, "teacher": tmp_path if teacher else None}
    with pytest.raises(ConfigError, match=r"differs in|teacher"):
        make_student(str(other_recipe(tmp_path)), tmp_path / "work", tmp_path / "out", **given)
    assert not (tmp_path / "work").exists()


def other_recipe(folder: Path) -> Path:
    """The demo student's recipe with another rate of learning in its first stage."""
    text = (SDK / "export/recipes/student-demo.toml").read_text()
    changed = re.sub(r"learning_rate = [\d.e-]+", "learning_rate = 0.5", text, count=1)
    assert changed != text
    path = folder / "other.toml"
    path.write_text(changed)
    return path


@pytest.mark.parametrize("module", ["export.distil.folds", "benchmarks.real_clips", "benchmarks.accuracy"])
def test_a_script_says_in_one_line_what_is_not_there(module: str, tmp_path: Path) -> None:
    if module == "export.distil.folds":
        pytest.importorskip("torch", reason="torch is not installed")
    missing, words = str(tmp_path / "missing"), ["--out", str(tmp_path)]
    words += [] if module.endswith("accuracy") else ["--work", str(tmp_path)]
    words += ["--bundle", f"a={missing}"] if module.endswith("real_clips") else []
    command = [sys.executable, "-m", f"edge_sdk.{module}", "--clips", missing, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (ConfigError.exit_code, BundleError.exit_code), done.stderr
    assert done.stderr.count("\n") == 1
    assert "missing" in done.stderr


def test_what_is_taught_on_is_what_is_tuned_on(tmp_path: Path) -> None:
    """The label table's clips where there is one, whatever they are called."""
    with pytest.raises(
        ConfigError, match=r"holds no clip to teach on; expected videos such as \*\.mp4, or labels\.csv"
    ):
        clips_of(tmp_path)
    for name in ("b.MP4", "a.mov", ".half.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in clips_of(tmp_path)] == ["a.mov", "b.MP4"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.avi").touch()
    table = "clip,view,crash,crash_start_s,crash_end_s,group\ndeep/c.avi,dashcam,no,,,c\na.mov,dashcam,no,,,a\n"
    (tmp_path / "labels.csv").write_text(table)
    assert [path.name for path in clips_of(tmp_path)] == ["a.mov", "c.avi"]


def test_scenes_that_the_student_was_trained_on_are_known() -> None:
    """By the demo's recipe: seeds 0 to 1399 of the first family, and of those from 1400 on 500 of other vehicles."""
    bundle = open_bundle(None)
    family, other = find_family("first"), find_family("broad")
    seen = [labelled(family.generator, seed) for seed in (0, 1399, 1400, 1901, 2065)]
    unseen = [labelled(family.generator, seed) for seed in (1405, 1406, 2066, 400_000)]
    unseen.append(labelled(other.generator, 3))
    assert trained_on(bundle, [*unseen, *seen]) == seen
    assert trained_on(bundle, [dataclasses.replace(clip, record=None) for clip in seen]) == []


def test_tuning_warns_where_it_is_to_be_calibrated_on_what_the_student_has_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of 20 scenes; the run ends at a teacher that is none."""
    pytest.importorskip("torch", reason="torch is not installed")
    for folder, seeds in {"own": [500_000], "held": [7, 8, *range(600_000, 600_018)]}.items():
        (tmp_path / folder).mkdir()
        for seed in seeds:
            times_s = (2.0, 3.0, 4.0) if seed % 2 else None
            record = scene_record(times_s, seed=seed, generator=find_family("first").generator, name=f"{seed}")
            (tmp_path / folder / f"{seed}.json").write_bytes(msgspec.json.encode(record))
            (tmp_path / folder / f"{seed}.mp4").write_text(f"{seed}")
    with pytest.raises(ConfigError, match="teacher"):
        tune_student(
            None, tmp_path / "own", tmp_path / "held", tmp_path / "out", tmp_path / "work", teacher=tmp_path / "own"
        )
    assert "the student was trained on 2 of 20 clips, 7.mp4 first" in capsys.readouterr().err


def labelled(generator: str, seed: int) -> LabelledClip:
    record = scene_record(None, name=f"{seed}", seed=seed, generator=generator)
    return LabelledClip(
        path=Path(f"{seed}.mp4"), view="dashcam", crash=False, start_s=None, end_s=None, pre_crash_s=None,
        group=f"{seed}", record=record,
    )  # fmt: skip
