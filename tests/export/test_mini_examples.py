"""What a mini is shown and asked: windows of which the answer is true, sampled as a device samples them."""

from __future__ import annotations

import re
from dataclasses import replace

import mini_material
import numpy as np
import pytest

from edge_sdk.evaluation.tasks.scene_answers import scene_answers
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.mini.questions import draw_questions, draw_sayings
from edge_sdk.export.mini.recipe import Windows
from edge_sdk.export.mini.targets import frame_targets, moments, patch_corners, token_targets
from edge_sdk.export.mini.tuning import draw_pairs, tasks_of, trainable
from edge_sdk.export.mini.windows import draw_shot, whole
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.patches import patchify
from edge_sdk.tasks import find_task

PROFILE, GRID = find_profile("24f"), Grid(rows=6, columns=10)
CALM, CRASH = mini_material.clips(2)


def test_a_whole_clip_is_sampled_as_the_reference_samples_it() -> None:
    shot = whole(CALM, PROFILE)
    stamps = np.linspace(0, 31, 24, dtype=int) / 4  # 8 s at 4 a second, spread over 24
    np.testing.assert_allclose(shot.stamps_s, stamps)
    # FFmpeg's fps filter shows the last picture that began before a slot ends.
    assert shot.pictures == tuple(int(np.floor((stamp + 0.25) * 10 - 1e-6)) for stamp in stamps)


def test_windows_keep_clear_of_the_crash() -> None:
    random, kinds = np.random.default_rng(0), set()
    for _ in range(300):
        shot = draw_shot(CRASH, PROFILE, Windows(whole=0.2, least_s=0.5), random)
        assert len(shot.pictures) == 24
        assert shot.window.end_s - shot.window.start_s >= 6 - 1e-6
        shown = shot.window.start_s <= mini_material.CRASH_S <= shot.window.end_s - 0.5
        assert shown
        kinds.add(round(shot.window.start_s, 1))
    assert len(kinds) > 5


def test_answers_are_true_of_the_window() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        shot = draw_shot(CRASH, PROFILE, Windows(whole=0.0, least_s=0.5), random)
        start_s = shot.window.start_s
        pairs = dict(draw_questions(CRASH, shot, 10, random))
        assert pairs["Does anything touch?"] == f"At {mini_material.CRASH_S - start_s:.1f}s."
        assert pairs["From when is it foreseeable?"] == f"From {mini_material.FORESEEN_S - start_s:.1f}s."
        assert pairs["Who touches whom?"] == "The ego-car, the car."
        assert pairs["What goes wrong?"] == "The ego-car: late reaction."
        [where] = [answer for question, answer in pairs.items() if question.startswith("Where is")]
        assert where == "x 35 y 60 width 30 height 40."
    calm = dict(draw_questions(CALM, whole(CALM, PROFILE), 10, random))
    assert calm["Does anything touch?"] == "Nothing touches."
    assert calm["What goes wrong?"] == "Nothing."
    assert not any(re.search("collision|accident", text) for text in [*calm, *calm.values()])


def test_no_question_of_pre_training_is_one_of_the_six() -> None:
    asked = draw_questions(CRASH, whole(CRASH, PROFILE), 10, np.random.default_rng(0))
    assert not {question for question, _ in asked} & {find_task(task).prompt for task in tasks_of("linguistic")}


def test_sayings_are_repeated_word_for_word() -> None:
    pairs = draw_sayings(300, np.random.default_rng(0))
    assert all(question == f"Say after me: {answer}" for question, answer in pairs)
    said = {answer for _, answer in pairs}
    assert {"Yes", "No", "no collision."} < said
    assert any(re.fullmatch(r"\d+\.\d - \d+\.\d seconds", text) for text in said)


@pytest.mark.parametrize("clip", [CALM, CRASH])
def test_an_adapter_is_asked_its_own_tasks(clip: mini_material.Material) -> None:
    shot, random = whole(clip, PROFILE), np.random.default_rng(0)
    truth = scene_answers(clip.record, clip.truth)
    spoken = draw_pairs("linguistic", clip, shot, 4, random)
    assert spoken[0] == (find_task("recognition").prompt, truth["recognition"])
    assert {question for question, _ in spoken} == {find_task(task).prompt for task in tasks_of("linguistic")}
    timed = dict(draw_pairs("perception", clip, shot, 2, random))
    assert timed == {find_task(task).prompt: truth[task] for task in tasks_of("perception") if task in truth}


def test_times_are_tuned_on_crashes_alone() -> None:
    assert [clip.record.crash for clip in trainable("perception", [CALM, CRASH])] == [True]
    assert len(trainable("linguistic", [CALM, CRASH])) == 2


def test_patch_corners_are_in_the_order_of_patches() -> None:
    picture = np.zeros((1, 84, 140, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(140)[None, None], np.arange(84)[None, :, None]
    first = patchify(picture, 14)[0].reshape(60, 3, 14, 14)[:, :, 0, 0]
    left, top = patch_corners(GRID)
    np.testing.assert_allclose(left * 140, first[:, 0])
    np.testing.assert_allclose(top * 84, first[:, 1])


def test_what_a_frame_is_to_show() -> None:
    found = frame_targets(CRASH, [3, 0], GRID)
    boxes = ((0.2, 0.4, 0.5, 0.8), (0.6, 0.4, 0.7, 0.5))
    covered = 2 * 60 * sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    assert found["cover"].sum() == pytest.approx(covered, rel=1e-4)
    left, top = patch_corners(GRID)
    x, y = left + 0.05, top + 1 / 12
    back = np.stack([x, y, x, y], -1) + found["ends"] * np.array([-1, -1, 1, 1])
    np.testing.assert_allclose(np.unique(back[found["inside"] > 0].round(5), axis=0), sorted(boxes), rtol=1e-5)
    assert found["scene"].tolist() == [[0, 0, 1]] * 2  # dashcam, day, rain


def test_moments_are_those_of_the_pictures() -> None:
    shot = whole(CRASH, PROFILE)
    times_s = np.array(shot.pictures) / mini_material.RATE_HZ
    found = moments(CRASH, shot)
    np.testing.assert_array_equal(found[:, 1] > 0, times_s >= mini_material.CRASH_S)
    np.testing.assert_array_equal(found[:, 2] > 0, times_s >= mini_material.FORESEEN_S)
    np.testing.assert_array_equal(
        found[:, 0] > 0, (times_s >= mini_material.CRASH_S) & (times_s <= mini_material.END_S)
    )
    assert not moments(CALM, whole(CALM, PROFILE)).any()


def test_tokens_know_which_vehicle_they_show_and_how_it_moves() -> None:
    boxes = CRASH.boxes.copy()
    steps = np.arange(len(boxes), dtype=np.float32)[:, None]
    boxes[:, 0, [0, 2]] += 0.002 * steps  # to the right, at the same size
    clip, shot = replace(CRASH, boxes=boxes), whole(CRASH, PROFILE)
    found = {name: value.reshape(24, 15, -1) for name, value in token_targets(clip, shot, GRID).items()}
    token = 6  # of 3 x 5: the second of the second row, 0.2..0.4 across and 0.33..0.67 down
    apart = np.diff(shot.pictures)
    seen = boxes[list(shot.pictures), 0]
    expected = np.stack([0.3 - seen[:, 0], 0.5 - seen[:, 1], seen[:, 2] - 0.3, seen[:, 3] - 0.5], -1)
    np.testing.assert_allclose(found["edges"][:, token], expected, atol=1e-6)
    np.testing.assert_allclose(found["motion"][1:, token, 0], 20 * 0.002 * apart, rtol=1e-4)
    np.testing.assert_allclose(found["motion"][1:, token, 1:], 0, atol=1e-5)
    assert not found["moved"][0].any()
    assert found["moved"][1:, token].all()
    assert not found["shown"][:, 0].any()  # the sky
    begun = moments(clip, shot)[:, 1] > 0
    np.testing.assert_array_equal(found["places"][:, token, 0] > 0, begun)


def test_a_scene_without_vehicles_shows_nothing() -> None:
    empty = replace(CALM, boxes=np.zeros((mini_material.PICTURES, 0, 6), np.float32))
    assert not frame_targets(empty, [0], GRID)["cover"].any()
    assert not token_targets(empty, whole(empty, PROFILE), GRID)["shown"].any()


@pytest.mark.parametrize("clip", [CALM, CRASH])
def test_a_short_window_has_its_number_of_frames(clip: mini_material.Material) -> None:
    random, windows = np.random.default_rng(3), Windows(whole=0.0, least_s=0.4, frames=12)
    crashes = 0
    for _ in range(100):
        shot = draw_shot(clip, PROFILE, windows, random)
        assert len(shot.pictures) == 12
        crash_s = clip.record.crash_start_s
        inside = crash_s is not None and shot.window.start_s <= crash_s <= shot.window.end_s - 0.4
        crashes += inside
        assert inside or crash_s is None or shot.window.end_s <= crash_s - 0.4
    assert clip is CALM or 20 < crashes < 90
