"""A student is tuned on clips of one's own beside a teacher of those clips."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import INFO, TAUGHT
from tuning_toy import PLAN, toy_clip, toy_start

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip, without_label
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.data import load_clips
from edge_sdk.export.distil.evaluate import clip_score, score_clip
from edge_sdk.export.distil.from_bundle import load_student
from edge_sdk.export.distil.recipe import Teacher
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache
from edge_sdk.export.distil.tune import tune
from edge_sdk.export.distil.tuning import load_tuning
from edge_sdk.export.graphs.student import Student
from edge_sdk.toolchain.distillation import tune_student

# Windows of 1.5 s: where the teacher sees a crash, from 2.5 s on, and where not.
ENDS_S = np.arange(1.5, 4.0, 0.5)
TAUGHT_PLAN = msgspec.structs.replace(
    PLAN,
    epochs=3,
    rehearsal_share=0.0,
    splice_share=0.0,
    teacher=Teacher(feature_weight=0.5, feature_shift_s=0.5, score_weight=4.0, boundary_weight=0.2, save_every=2),
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Student]:
    return toy_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledClip]:
    folder = tmp_path_factory.mktemp("clips")
    return [toy_clip(folder, number) for number in range(12)]


def taught(folder: Path, clips: list[LabelledClip], *, sees: bool) -> TeacherCache:
    """A teacher that says of a crash that it is one, or the contrary."""
    cache = TeacherCache.create(folder, msgspec.structs.replace(INFO, bundle=f"teacher that sees: {sees}"))
    rng = np.random.default_rng(3)
    grid_s = np.arange(40) / 10
    densities = np.exp(-0.5 * ((grid_s - np.array([[2.5], [3.4]])) / 0.3) ** 2)
    for clip in clips:
        yes = np.where((ENDS_S > 2.7) & clip.crash & sees, 0.99, 0.01)
        lesson = Lesson(
            feature_times_s=(np.arange(16) / 4).astype(np.float32),
            features=rng.normal(size=(16, 3, TAUGHT)).astype(np.float16),
            score_times_s=ENDS_S.astype(np.float32),
            yes=yes.astype(np.float32),
            boundary_times_s=grid_s.astype(np.float32),
            densities=(densities / densities.sum(1, keepdims=True)).astype(np.float32),
        )
        cache.write(hashlib.sha256(clip.path.read_bytes()).hexdigest(), lesson)
    return cache


def peaks(bundle: Path, clips: list[LabelledClip], work: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The highest mean crash score of each clip."""
    model, recipe = load_student(Bundle.open(bundle))
    size = recipe.pictures.height, recipe.pictures.width
    return np.array([clip_score(score_clip(model, c, recipe, *size)) for c in load_clips(clips, work, recipe.pictures)])


def test_a_student_follows_its_teacher_and_a_stopped_run_ends_as_a_whole_one(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    training, held_out = clips[:8], clips[8:]
    caches = {sees: taught(tmp_path / f"{sees}", training, sees=sees) for sees in (True, False)}

    class Interrupted(Exception):
        pass

    def stop_in_the_second_epoch(done: int, total: int, note: str) -> None:
        if "epoch 2/3" in note:
            raise Interrupted

    def make(out: str, sees: bool, work: str, stop: bool = False) -> Path:
        report = stop_in_the_second_epoch if stop else None
        folders = tmp_path / out, tmp_path / work
        teacher = caches[sees].folder
        return tune(start[0], TAUGHT_PLAN, "toy", training, held_out, [], *folders, report, teacher=teacher)

    whole = make("whole", True, "one")
    with pytest.raises(Interrupted):
        make("parts", True, "two", stop=True)
    parts = make("parts", True, "two")
    assert (whole / "student.onnx").read_bytes() == (parts / "student.onnx").read_bytes()
    # In a work folder of another teacher's run nothing of that is gone on with.
    blind = make("blind", False, "one")
    crashes = [clip for clip in held_out if clip.crash]
    assert (peaks(whole, crashes, tmp_path / "seen") > peaks(blind, crashes, tmp_path / "seen") + 0.1).all()
    made = Bundle.open(whole)
    assert made.manifest.provenance["teacher"]["bundle"] == "teacher that sees: True"
    held, before = (load_student(each)[0].state_dict() for each in (made, start[0]))
    assert held.keys() == before.keys()
    assert any(not torch.equal(value, before[name]) for name, value in held.items())


def test_of_clips_without_labels_a_student_learns_what_its_teacher_says(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    """Two clips have labels, six have none; what stands in those that nobody gave decides nothing."""
    labelled, nameless, held_out = clips[:2], [replace(clip, labelled=False) for clip in clips[2:8]], clips[8:]
    plan = msgspec.structs.replace(TAUGHT_PLAN, splice_share=0.5)

    def make(out: str, more: list[LabelledClip], *, sees: bool) -> Path:
        cache = taught(tmp_path / f"cache {sees}", clips[:8], sees=sees)
        folders = tmp_path / out, tmp_path / f"work of {out}"
        return tune(start[0], plan, "toy", labelled, held_out, [], *folders, teacher=cache.folder, unlabelled=more)

    seeing = make("seeing", nameless, sees=True)
    wrong = [without_label(clip) for clip in nameless]
    again = make("again", wrong, sees=True)
    assert (seeing / "student.onnx").read_bytes() == (again / "student.onnx").read_bytes()
    blind = make("blind", nameless, sees=False)
    crashes = [clip for clip in held_out if clip.crash]
    assert (peaks(seeing, crashes, tmp_path / "seen") > peaks(blind, crashes, tmp_path / "seen") + 0.1).all()
    provenance = Bundle.open(seeing).manifest.provenance
    assert (provenance["labelled_clips"], provenance["unlabelled_clips"]) == (2, 6)


def test_clips_without_labels_and_without_a_teacher_are_refused(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"because some clips have no labels.*edge-sdk distil teach"):
        tune(
            start[0], PLAN, "toy", clips[:2], clips[2:4], [], tmp_path / "out", tmp_path / "work", unlabelled=clips[4:]
        )


def test_a_clip_that_the_teacher_has_not_seen_is_named_before_anything_is_decoded(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    cache = taught(tmp_path / "cache", clips[:7], sees=True)
    for own, rehearsed, more in ((clips[:8], [], []), (clips[:6], clips[6:8], []), (clips[:6], [], clips[6:8])):
        with pytest.raises(ConfigError, match=r"7\.mp4.*edge-sdk distil teach"):
            tune(
                start[0],
                TAUGHT_PLAN,
                "toy",
                own,
                clips[8:],
                rehearsed,
                tmp_path / "out",
                tmp_path / "work",
                teacher=cache.folder,
                unlabelled=more,
            )
    assert not (tmp_path / "work").exists()


def test_a_teacher_and_a_tuning_recipe_belong_together(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    cache = taught(tmp_path / "cache", clips[:2], sees=True)
    sides: tuple[list[LabelledClip], ...] = clips[:2], clips[2:4], []
    with pytest.raises(ConfigError, match=r"has a table \[teacher\], and no cache is given"):
        tune(start[0], TAUGHT_PLAN, "toy", *sides, tmp_path / "out", tmp_path / "work")
    with pytest.raises(ConfigError, match=r"has no table \[teacher\], and a cache is given"):
        tune(start[0], PLAN, "toy", *sides, tmp_path / "out", tmp_path / "work", teacher=cache.folder)
    with pytest.raises(ConfigError, match="is not a teacher's cache"):
        tune(start[0], TAUGHT_PLAN, "toy", *sides, tmp_path / "out", tmp_path / "work", teacher=tmp_path)


def test_clips_that_are_levelled_first_are_none_that_a_teacher_has_seen(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --level or --teacher out"):
        tune_student(None, tmp_path, tmp_path, tmp_path / "out", tmp_path / "work", level=True, teacher=tmp_path)


def test_the_recipe_with_a_teacher_is_the_usual_one_beside_it(tmp_path: Path) -> None:
    usual, beside = load_tuning("tune-student")[0], load_tuning("tune-student-taught")[0]
    assert usual.teacher is msgspec.UNSET
    assert beside == msgspec.structs.replace(usual, teacher=Teacher())
    assert b"teacher" not in msgspec.json.encode(usual)
    path = tmp_path / "tune-bad.toml"
    path.write_text(load_tuning("tune-student")[1] + "\n[teacher]\ntemperature = 0.0\n")
    with pytest.raises(ConfigError, match=r"tune-bad\.toml: teacher\.temperature must be above 0"):
        load_tuning(str(path))
