"""Fine-tuning on a toy: it begins where a bundle ended, learns what is new, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import FRAMES, HEIGHT, WIDTH
from tuning_toy import PLAN, toy_clip, toy_start

from edge_sdk.bundle import Bundle, open_bundle, rewrite
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.evaluation.folds import assign_folds, fold_bundle, read_folds
from edge_sdk.export.distil import load_recipe
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.folds import train_folds
from edge_sdk.export.distil.from_bundle import TRAINING_ONLY, load_student
from edge_sdk.export.distil.student import digest
from edge_sdk.export.distil.tune import tune, tuning_checkpoint
from edge_sdk.export.distil.tuning import balanced, before_crash, load_tuning, rehearsed, tuned_recipe
from edge_sdk.export.graphs.student import Student
from edge_sdk.toolchain.seen_scenes import trained_on
from edge_sdk.verify import verify


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Student]:
    return toy_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledClip]:
    folder = tmp_path_factory.mktemp("clips")
    return [toy_clip(folder, number) for number in range(16)]


def test_a_student_comes_back_from_its_bundle(start: tuple[Bundle, Student]) -> None:
    bundle, model = start
    found, recipe = load_student(bundle)
    planes = torch.randn(2, 30, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        expected, again = model(planes)[0], found(planes)[0]
    torch.testing.assert_close(again, expected, atol=1e-4, rtol=1e-4)
    assert recipe.shape == model.shape
    assert (recipe.pictures.height, recipe.pictures.width) == (HEIGHT, WIDTH)


def test_a_bundle_that_does_not_say_how_it_was_made_is_refused(start: tuple[Bundle, Student], tmp_path: Path) -> None:
    bundle, _ = start
    silent = rewrite(bundle, tmp_path / "silent", provenance={"recipe": None})
    with pytest.raises(ConfigError, match=r"provenance\.recipe"):
        load_student(silent)
    other = rewrite(bundle, tmp_path / "other", provenance={"recipe": load_recipe("student-demo")[1]})
    with pytest.raises(BundleError, match="does not hold the weights of its recipe"):
        load_student(other)


def test_a_student_that_took_its_place_in_a_larger_bundle_is_found(
    start: tuple[Bundle, Student], tmp_path: Path
) -> None:
    bundle, model = start
    nested = {"recipe": "of something else", "student": {"bundle": "x", "provenance": bundle.manifest.provenance}}
    larger = rewrite(bundle, tmp_path / "larger", provenance=nested)
    assert load_student(larger)[1].shape == model.shape
    again = {"recipe": {"of": "a third"}, "student": {"bundle": "y", "provenance": nested}}
    largest = rewrite(bundle, tmp_path / "largest", provenance=again)
    assert load_student(largest)[1].shape == model.shape


def test_the_student_that_tuning_begins_with_by_default_comes_back() -> None:
    model, recipe = load_student(open_bundle(None))
    assert (model.shape, recipe.name) == (load_recipe("student-demo")[0].final_shape, "student-demo")


def cached(number: int, *, pre_crash_s: float | None = None) -> CachedClip:
    crash = bool(number % 2)
    label = LabelledClip(
        path=Path(f"{number}.mp4"),
        view="roadside",
        crash=crash,
        start_s=2.5 + 2 if crash else None,
        end_s=None,
        pre_crash_s=pre_crash_s,
        group=f"g{number}",
    )
    times = np.arange(80) / 10
    return CachedClip(np.zeros((80, 8, 8), np.uint8), times, label, np.zeros((80, 1, 6), np.float32))


def test_what_precedes_a_crash_is_a_clip_without_one() -> None:
    piece = before_crash(cached(1))
    assert piece is not None
    # 4.5 s less the gap of 1.5 s.
    assert (len(piece.luma), len(piece.times_s), piece.boxes is not None and len(piece.boxes)) == (30, 30, 30)
    assert (piece.label.crash, piece.label.start_s) == (False, None)
    warned = before_crash(cached(1, pre_crash_s=4.0))
    assert warned is not None
    assert len(warned.luma) == 25
    assert before_crash(cached(1, pre_crash_s=3.0)) is None
    assert before_crash(cached(2)) is None


def test_clips_without_a_crash_are_shown_as_often_as_crashes() -> None:
    shown = balanced([cached(number) for number in (1, 3, 5, 7, 9, 11, 13, 15, 2, 4)])
    assert sum(clip.label.crash for clip in shown) == 8
    # 8 pieces before a crash already outweigh them; nothing is repeated.
    assert sum(not clip.label.crash for clip in shown) == 8 + 2
    without = [cached(number, pre_crash_s=3.0) for number in (1, 3, 5, 7, 9, 11, 13, 15)]
    shown = balanced([*without, cached(2), cached(4)])
    assert sum(not clip.label.crash for clip in shown) == 8


def test_rehearsal_takes_its_share_spread_over_what_there_is() -> None:
    assert rehearsed(0.2, 80, 100) == list(range(0, 100, 5))
    assert rehearsed(0.2, 80, 7) == list(range(7))
    assert rehearsed(0.0, 80, 100) == rehearsed(0.5, 80, 0) == []


def test_the_recipe_that_comes_with_the_package_changes_what_it_says(start: tuple[Bundle, Student]) -> None:
    plan, _ = load_tuning("tune-student")
    base = load_student(start[0])[1]
    recipe = tuned_recipe(base, plan)
    assert (recipe.late, recipe.head, recipe.shape) == (None, None, base.shape)
    assert [(s.height, s.width, s.epochs) for s in recipe.stages] == [(HEIGHT, WIDTH, plan.epochs)]
    smaller = tuned_recipe(base, msgspec.structs.replace(plan, height=64, width=96))
    assert (smaller.pictures.height, smaller.stages[0].width) == (64, 96)
    with pytest.raises(ConfigError, match="tune-student"):
        load_tuning("tune-nothing")


SLIPS = [
    ("epochs = 8", "epochs = 0", "epochs"),
    ("windows = 8", "windows = 0", "windows"),
    ("micro = 2", "micro = -1", "micro"),
    ("epochs = 8", "epochs = 8\nheight = 100\nwidth = 160", "100x160"),
    ("splice_share = 0.5", "splice_share = 1.5", "splice_share"),
    ("rehearsal_share = 0.2", "rehearsal_share = 1.0", "rehearsal_share"),
    ("aftermath_s = 0.5", "aftermath_s = -0.5", "aftermath_s"),
    ("dropout = [0.3, 0.3]", "dropout = [0.3, 1.0]", "dropout"),
    ("learning_rate = 0.0005", "learning_rate = 0.0", "learning_rate"),
    ("average = 0.98", "average = 1.0", "average"),
    ("average = 0.98", "average = 0.98\nblend = 0.0", "blend"),
    ("learning_rate = 0.0005", "learning_rate = nan", "learning_rate must be above 0, found nan"),
    ("seed = 1", "seed = -1", "seed must be at least 0"),
]


@pytest.mark.parametrize(("old", "new", "named"), SLIPS)
def test_a_slip_in_a_tuning_recipe_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    text, path = load_tuning("tune-student")[1], tmp_path / "tune-slip.toml"
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"tune-slip\.toml.*{named}"):
        load_tuning(str(path))


def test_a_checkpoint_is_of_one_start_and_one_plan(tmp_path: Path) -> None:
    base, shown = load_recipe("student-demo")[0], [cached(1), cached(2)]
    for number, clip in enumerate(shown):
        path = tmp_path / f"{number}.mp4"
        path.write_text(str(number))
        shown[number] = replace(clip, label=replace(clip.label, path=path))
    plans = [PLAN, msgspec.structs.replace(PLAN, dropout=(0.0, 0.1)), msgspec.structs.replace(PLAN, epochs=7)]
    starts = ["a" * 64, "b" * 64, "scratch"]
    names = {tuning_checkpoint(tmp_path, s, tuned_recipe(base, p), p, shown) for s in starts for p in plans}
    assert len(names) == 9
    assert tuning_checkpoint(tmp_path, starts[0], tuned_recipe(base, PLAN), PLAN, shown) in names
    assert tuning_checkpoint(tmp_path, starts[0], tuned_recipe(base, PLAN), PLAN, shown[:1]) not in names


def test_tuning_learns_the_toy_and_a_stopped_run_ends_as_a_whole_one(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    bundle, _ = start

    class Interrupted(Exception):
        pass

    def stop_in_the_third_epoch(done: int, total: int, note: str) -> None:
        if "epoch 3/6" in note:
            raise Interrupted

    training, held_out, rendered = clips[:12], clips[12:], [replace(clips[0], group="r")]
    whole = tune(bundle, PLAN, "toy", training, held_out, rendered, tmp_path / "whole", tmp_path / "one")
    with pytest.raises(Interrupted):
        tune(
            bundle,
            PLAN,
            "toy",
            training,
            held_out,
            rendered,
            tmp_path / "parts",
            tmp_path / "two",
            stop_in_the_third_epoch,
        )
    tune(bundle, PLAN, "toy", training, held_out, rendered, tmp_path / "parts", tmp_path / "two")
    graphs = [(tmp_path / name / "student.onnx").read_bytes() for name in ("whole", "parts")]
    assert graphs[0] == graphs[1]
    made = Bundle.open(whole)
    known = made.manifest.provenance
    assert known["tuned_from"]["sha256"] == bundle.sha256
    assert known["validation"]["clip_auc"] > 0.9
    assert len(known["losses"]) == 6
    assert verify(made, "ort").ok
    # What is fitted on these promises too much. Toy clips 14 and 15 show the same as 0 and 1.
    assert trained_on(made, [*held_out[:2], *training]) == training
    assert trained_on(bundle, clips) == []
    # What was tuned can be tuned again.
    assert load_student(made)[1].shape == load_student(bundle)[1].shape


def test_what_is_written_lies_between_what_was_and_what_was_learnt(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    """A quarter of the way, by weights read from the three bundles; nothing is trained a second time."""
    short, told = msgspec.structs.replace(PLAN, epochs=1), list[str]()

    def make(blend: float) -> dict[str, torch.Tensor]:
        plan, out = msgspec.structs.replace(short, blend=blend), tmp_path / f"{blend}"
        note = tune(start[0], plan, "toy", clips[:4], clips[4:6], [], out, tmp_path, lambda d, t, n: told.append(n))
        return load_student(Bundle.open(note))[0].state_dict()

    whole = make(1.0)
    assert any("epoch 1/1" in note for note in told)
    told.clear()
    part, before = make(0.25), load_student(start[0])[0].state_dict()
    assert not any("epoch 1/1" in note for note in told)
    held = [name for name in whole if not name.startswith(TRAINING_ONLY)]
    moved = [name for name in held if not torch.equal(whole[name], before[name])]
    assert len(moved) > 5
    for name in moved:
        torch.testing.assert_close(part[name], 0.75 * before[name] + 0.25 * whole[name], atol=1e-5, rtol=1e-4)


def test_tuning_needs_clips_on_both_sides_and_a_crash(start: tuple[Bundle, Student], tmp_path: Path) -> None:
    label = LabelledClip(
        path=tmp_path / "n.mp4", view="roadside", crash=False, start_s=None, end_s=None, pre_crash_s=None, group="n"
    )
    for training, validation in (([], [label]), ([label], []), ([label], [label])):
        with pytest.raises(ConfigError, match="0 crashes to train on"):
            tune(start[0], PLAN, "toy", training, validation, [], tmp_path / "out", tmp_path / "work")


def frames_of(folder: Path) -> Iterator[int]:
    for path in sorted(folder.glob("frames-*.u8")):
        yield path.stat().st_size // (HEIGHT * WIDTH)


def test_every_fold_has_a_student_that_has_not_seen_it(
    start: tuple[Bundle, Student], clips: list[LabelledClip], tmp_path: Path
) -> None:
    """Where the last fold's crashes begin is told wrong: only the students that are not judged on them may change.

    Those are trained first, so nothing of theirs may reach the last one.
    """
    plan = msgspec.structs.replace(PLAN, epochs=1, rehearsal_share=0.0)
    some, work = clips[:6], tmp_path / "work"

    def quiet(done: int, total: int, note: str) -> None:
        pass

    train_folds(start[0], plan, "toy", some, [], 2, work, tmp_path / "right", quiet)
    assigned = assign_folds(some, 2)
    assert read_folds(tmp_path / "right").clips == {clip.path.stem: assigned[clip.group] for clip in some}
    assert list(frames_of(work)) == [6 * FRAMES]
    wrong = [replace(c, start_s=0.5, end_s=1.0) if c.crash and assigned[c.group] == 1 else c for c in some]
    assert wrong != some
    train_folds(start[0], plan, "toy", wrong, [], 2, work, tmp_path / "wrong", quiet)
    right_0, wrong_0, right_1, wrong_1 = (
        (fold_bundle(tmp_path / name, fold) / "student.onnx").read_bytes()
        for fold in (0, 1)
        for name in ("right", "wrong")
    )
    assert right_0 != wrong_0
    assert right_1 == wrong_1
    for fold in (0, 1):
        trained = [clip for clip in some if assigned[clip.group] != fold]
        assert trained_on(Bundle.open(fold_bundle(tmp_path / "right", fold)), some) == trained
    seen = Bundle.open(fold_bundle(tmp_path / "right", 0))
    with pytest.raises(ConfigError, match="seen none of the clips that it is scored on"):
        train_folds(seen, plan, "toy", some, [], 2, work, tmp_path / "twice", quiet)
    with pytest.raises(ConfigError, match=r"fold-0 was made from other clips or labels, or with other settings"):
        train_folds(start[0], plan, "toy", wrong, [], 2, work, tmp_path / "right", quiet)
    other = msgspec.structs.replace(plan, blend=0.25)
    with pytest.raises(ConfigError, match=r"fold-0 was made from other"):
        train_folds(start[0], other, "toy", some, [], 2, work, tmp_path / "right", quiet)
    assert read_folds(tmp_path / "right").clips == {clip.path.stem: assigned[clip.group] for clip in some}
    train_folds(start[0], plan, "toy", some, [], 2, work, tmp_path / "right", quiet)
    assert (fold_bundle(tmp_path / "right", 0) / "student.onnx").read_bytes() == right_0


def test_clips_of_other_bytes_are_not_what_a_checkpoint_was_made_of(clips: list[LabelledClip], tmp_path: Path) -> None:
    copied = []
    for number, clip in enumerate(clips[:2]):
        path = tmp_path / clip.path.name
        path.write_bytes(clip.path.read_bytes() + b"\0" * number)
        copied.append(replace(clip, path=path))
    recipe, _ = load_recipe("student-demo")
    assert digest(recipe, clips[:1]) == digest(recipe, copied[:1])
    assert digest(recipe, clips[:2]) != digest(recipe, copied)
