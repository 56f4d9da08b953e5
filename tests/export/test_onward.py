"""The last stage of a student: it begins as the student it was given, looks around incidents, and can be stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import FRAMES, HEIGHT, ONWARD_TABLES, WIDTH, toy_clip, toy_recipe, toy_text
from scene_records import scene_record

from edge_sdk.errors import ConfigError
from edge_sdk.export.distil import load_recipe
from edge_sdk.export.distil.augment import augment
from edge_sdk.export.distil.data import CachedClip
from edge_sdk.export.distil.focus import FocusSampler, drawn, incident_frame, shares
from edge_sdk.export.distil.onward import onward_student, train_onward
from edge_sdk.export.distil.recipe import Focus, Onward, Seeds
from edge_sdk.export.distil.run import Run
from edge_sdk.export.distil.student import begun, check, train
from edge_sdk.export.graphs.student import Student
from edge_sdk.export.graphs.views import View
from edge_sdk.export.student_bundle import write_student_bundle

FOCUS = Focus(frames=24, share=1.0, before=6, after=8, own_car=0.5, normal=0.25, zoom=1.5, zoomed=0.5, splice_share=0.0)
ONWARD = Onward(
    steps=70,
    windows=4,
    micro=2,
    frozen=3,
    # Dropout is drawn by torch as it goes, so a resumed run would only end near the whole one.
    dropout=(0.0, 0.0),
    learning_rate=0.003,
    warm_up_steps=5,
    decay_share=0.4,
    average=0.9,
    window_weight=1.0,
    focus=FOCUS,
)
RECORD = scene_record(None, kind="near_miss", scenario="cut_in", frames=FRAMES, duration_s=4.0, min_gap_m=0.5)


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(3)
    model = Student(toy_recipe().shape).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 6, 3, HEIGHT, WIDTH))
    return model.eval()


@pytest.fixture
def clips(tmp_path: Path) -> list[CachedClip]:
    return [toy_clip(tmp_path, number) for number in range(12)]


def go_on(student: Student, onward: Onward, clips: list[CachedClip], checkpoint: Path, stop_at: int = 0) -> Run:
    class Killed(Exception):
        pass

    def report(done: int, total: int, note: str) -> None:
        if done == stop_at:
            raise Killed

    recipe = msgspec.structs.replace(toy_recipe(), teacher=msgspec.UNSET)
    if stop_at:
        with pytest.raises(Killed):
            train_onward(None, student, recipe, onward, clips, clips[:4], checkpoint, report)
    return train_onward(None, student, recipe, onward, clips, clips[:4], checkpoint, lambda done, total, note: None)


def test_everything_that_was_folded_can_still_learn(student: Student) -> None:
    model = onward_student(student, msgspec.structs.replace(ONWARD, frozen=0))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert any(name.endswith("conv.bias") for name, _ in model.named_parameters())


def test_it_begins_as_the_student_it_was_given(student: Student) -> None:
    planes = torch.randn(2, 12, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        expected, maps = student(planes)
        found, again = onward_student(student, ONWARD)(planes)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again, maps, atol=1e-4, rtol=1e-4)


def test_it_learns_the_rest_and_leaves_the_first_layers(
    student: Student, clips: list[CachedClip], tmp_path: Path
) -> None:
    before = onward_student(student, ONWARD)
    views = (View(), View(mirrored=True))
    run = go_on(student, msgspec.structs.replace(ONWARD, views=views), clips, tmp_path / "whole.pt")
    learnt = run.averaged()
    for (name, old), new in zip(before.named_parameters(), learnt.parameters(), strict=True):
        frozen = name.split(".")[0] == "picture" and int(name.split(".")[1]) < ONWARD.frozen
        if frozen:
            torch.testing.assert_close(new, old, atol=0, rtol=0)
        elif not name.startswith("flow"):
            assert (new - old).abs().max() > 1e-4, name
    assert learnt.shape.views == views
    (found,) = run.metrics
    assert found is not None
    assert found.clip_auc > 0.9


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    student: Student, clips: list[CachedClip], tmp_path: Path
) -> None:
    whole = go_on(student, ONWARD, clips, tmp_path / "one.pt")
    parts = go_on(student, ONWARD, clips, tmp_path / "two.pt", stop_at=65)
    assert len(whole.losses) == len(whole.metrics) == 1
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    again = go_on(student, ONWARD, clips, tmp_path / "one.pt")
    assert again.losses == whole.losses
    for expected, found in zip(whole.averaged().parameters(), parts.averaged().parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_pieces_hold_the_incident_well_inside(clips: list[CachedClip]) -> None:
    recipe = toy_recipe()
    sampler = FocusSampler(clips, recipe, FOCUS)
    begins = {sampler.first_frame(np.random.default_rng(seed), 1, 24) for seed in range(300)}
    # The crash begins at frame 15: at most 9 so that 6 frames lie before it; the clip ends before 8 could be lacking.
    assert begins == set(range(10))
    # A piece too short for both keeps what comes after.
    assert {sampler.first_frame(np.random.default_rng(seed), 1, 10) for seed in range(50)} == {13}
    anywhere = FocusSampler(clips, recipe, msgspec.structs.replace(FOCUS, share=0.0))
    begins = {anywhere.first_frame(np.random.default_rng(seed), 1, 24) for seed in range(300)}
    assert begins == set(range(FRAMES - 24 + 1))
    zooms = [sampler.enlarged(np.random.default_rng(seed)) for seed in range(400)]
    assert 0.4 < np.mean([zoom == 1.0 for zoom in zooms]) < 0.6
    assert all(zoom == 1.0 or 1.5 / np.e**0.1 <= zoom <= 1.5 * np.e**0.1 for zoom in zooms)


def test_the_incident_is_where_two_vehicles_are_nearest_for_their_size(tmp_path: Path) -> None:
    clip = toy_clip(tmp_path, 0)
    boxes = np.zeros((FRAMES, 3, 6), np.float32)
    for t in range(FRAMES):
        # Two pass at frame 22; a third, which has no part in it, is always nearer.
        for vehicle, (left, role) in enumerate([(0.1 + 0.02 * t, 1), (0.98 - 0.02 * t, 1), (0.1 + 0.02 * t, 0)]):
            boxes[t, vehicle] = [left, 0.4, left + 0.1, 0.5, 1, role]
    # Nor does a frame count in which one of them is hidden.
    boxes[22, 1, 4] = 0
    label = dataclasses.replace(clip.label, record=RECORD)
    passing = dataclasses.replace(clip, boxes=boxes, label=label)
    assert incident_frame(passing) in (21, 23)
    own = msgspec.structs.replace(RECORD, ego_involved=True)
    boxes[7, 0, 3] = 0.9
    assert incident_frame(dataclasses.replace(passing, label=dataclasses.replace(label, record=own))) == 7
    unseen = dataclasses.replace(passing, label=dataclasses.replace(label, record=own), boxes=np.zeros_like(boxes))
    assert incident_frame(unseen) == FRAMES // 2
    assert incident_frame(clip) == FRAMES // 2
    assert incident_frame(toy_clip(tmp_path, 1)) == 15


def test_clips_are_shown_as_often_as_their_shares_say(clips: list[CachedClip]) -> None:
    records = [
        RECORD,
        msgspec.structs.replace(RECORD, ego_involved=True),
        msgspec.structs.replace(RECORD, kind="normal"),
    ]
    labels = [dataclasses.replace(clips[0].label, record=record) for record in records]
    weights = shares([*(dataclasses.replace(clips[0], label=label) for label in labels), clips[1]], FOCUS)
    assert weights.tolist() == [1.0, 0.5, 0.25, 1.0]
    rng = np.random.default_rng(0)
    first = np.bincount([drawn(rng, weights, 3)[0] for _ in range(6000)], minlength=4) / 6000
    np.testing.assert_allclose(first, weights / weights.sum(), atol=0.03)
    assert sorted(drawn(rng, weights, 4)) == [0, 1, 2, 3]


def test_enlarging_makes_things_larger_around_the_middle() -> None:
    luma = np.full((4, 96, 160), 20, np.uint8)
    luma[:, 40:56, 70:90] = 240
    sizes = {1.0: [], 1.5: []}
    for zoom, found in sizes.items():
        for seed in range(40):
            shown, _ = augment(luma, np.random.default_rng(seed), 96, 160, zoom)
            found.append((shown[0] > (int(shown[0].min()) + int(shown[0].max())) / 2).sum())
    assert np.median(sizes[1.5]) / np.median(sizes[1.0]) == pytest.approx(1.5**2, rel=0.15)


def test_a_start_must_come_from_the_same_early_stages(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(toy_text())
    base, text = load_recipe(tmp_path / "toy.toml")
    torch.manual_seed(5)
    student = Student(base.final_shape).train()
    with torch.no_grad():
        for _ in range(3):
            student(torch.randn(2, 6, 3, HEIGHT, WIDTH))
    student.eval()
    bundle = write_student_bundle(tmp_path / "b", student, base, {"recipe": text})
    others = msgspec.structs.replace(base.scenes, training=Seeds(first=5000, count=3))
    onward = msgspec.structs.replace(base, onward=ONWARD, version="2", scenes=others)
    planes = torch.randn(1, 9, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        torch.testing.assert_close(begun(onward, bundle)(planes)[0], student(planes)[0], atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="seed"):
        begun(msgspec.structs.replace(onward, seed=8), bundle)
    with pytest.raises(ConfigError, match=r"no table \[onward\]"):
        check(base, None, bundle)
    # Nothing is decoded before: these are no videos.
    labels = [toy_clip(tmp_path, number).label for number in (0, 1)]
    with pytest.raises(ConfigError, match=r"no table \[onward\]"):
        train(base, text, labels, labels, tmp_path / "out", tmp_path / "work", start=bundle)
    with pytest.raises(ConfigError, match="exists already"):
        train(onward, text, labels, labels, bundle.folder, tmp_path / "work", start=bundle)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("steps = 70", "steps = 0", "steps"),
        ("decay_share = 0.4", "decay_share = 0", "decay_share"),
        ("zoom = 1.5", "zoom = 0.5", "zoom"),
        ("before = 6", "before = 17", "before"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"{toy_text()}\n{ONWARD_TABLES}")
    assert load_recipe(path)[0].onward == ONWARD
    path.write_text(f"{toy_text()}\n{ONWARD_TABLES.replace(old, new, 1)}")
    with pytest.raises(ConfigError, match=named):
        load_recipe(path)
