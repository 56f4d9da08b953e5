"""A teacher's lessons beside frames, and the losses on them, against torch's own distributions and closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from distilled_toy import INFO, TAUGHT, TEACHER, toy_cache, toy_clip, toy_lesson, toy_recipe
from torch.distributions import Bernoulli, kl_divergence

from edge_sdk.clips import without_label
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil.losses import PEAK_FRAMES
from edge_sdk.export.distil.targets import CRASH, END, START, frame_targets
from edge_sdk.export.distil.teacher_cache import Lesson, TeacherCache
from edge_sdk.export.distil.teacher_losses import boundary_loss, feature_loss, score_loss, teacher_loss
from edge_sdk.export.distil.teacher_targets import Lessons, lay, sharpness

# Columns of what a teacher's times tell.
TOLD_CRASH, TOLD_START, TOLD_END = range(3)


def lesson(**changes: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Lesson:
    return Lesson(**(vars(toy_lesson(1, np.random.default_rng(1))) | changes))


def bumps(start_s: float, end_s: float, width_s: float = 0.3) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Densities over the toy's 40 tenths of a second: Gaussians of `width_s`, each of sum 1."""
    found = np.exp(-0.5 * ((np.arange(40) / 10 - np.array([[start_s], [end_s]])) / width_s) ** 2)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def test_a_lesson_is_read_as_it_was_written(tmp_path: Path) -> None:
    cache, written = TeacherCache.create(tmp_path / "c", INFO), lesson()
    cache.write("a" * 64, written)
    found = TeacherCache.open(tmp_path / "c").read("a" * 64)
    assert found is not None
    for name, value in vars(written).items():
        assert np.array_equal(getattr(found, name), value)
        assert getattr(found, name).dtype == value.dtype
    assert cache.read("b" * 64) is None


def test_another_teacher_is_refused_and_a_broken_lesson_named(tmp_path: Path) -> None:
    cache = TeacherCache.create(tmp_path, INFO)
    with pytest.raises(ConfigError, match=r"window_s 1.5 there, 2.0 now"):
        TeacherCache.create(tmp_path, msgspec.structs.replace(INFO, window_s=2.0))
    cache.path("a" * 64).write_bytes(b"no lesson")
    with pytest.raises(ConfigError, match="is not a lesson"):
        cache.read("a" * 64)
    cache.write("b" * 64, lesson(yes=np.zeros(2, np.float32)))
    with pytest.raises(ConfigError, match=r"expected yes \[5\], found \[2\]"):
        cache.read("b" * 64)
    cache.write("c" * 64, lesson(yes=np.full(5, np.nan, np.float32)))
    with pytest.raises(ConfigError, match="not finite"):
        cache.read("c" * 64)


def test_a_frame_is_to_tell_what_the_teacher_sees_later(tmp_path: Path) -> None:
    """Teacher frames lie 0.25 s apart from 0 to 3.75 s: with a shift of 0.5 s frame 10, at 1.0 s, tells number 6."""
    laid = lay(lesson(), INFO, toy_clip(tmp_path, 1), toy_recipe(), TEACHER)
    assert laid.seen[10] == 6
    assert laid.seen[0] == 2
    # 3.9 + 0.5 s lies beyond the teacher's last frame.
    assert laid.seen[39] == -1
    near = [abs(k / 10 + 0.5 - laid.seen[k] / 4) for k in range(40) if laid.seen[k] >= 0]
    assert max(near) <= 0.125 + 1e-6
    assert np.array_equal(laid.features, toy_lesson(1, np.random.default_rng(1)).features[:, -1].astype(np.float32))


def test_windows_of_the_teacher_count_where_all_of_them_is_seen(tmp_path: Path) -> None:
    clips = [toy_clip(tmp_path, number) for number in (0, 1)]
    lessons = Lessons(toy_cache(tmp_path / "c", clips), clips, toy_recipe(), TEACHER)
    # Frames 10..29 of clip 1 behind frames 0..3 of clip 0: windows that end at 2.5 s and before 3 s begin after 1.0 s.
    origins = np.array([[0, k] for k in range(4)] + [[1, k] for k in range(10, 30)])
    found = lessons.batch([origins])
    spans = found["spans"][0][found["yes_known"][0] > 0]
    frames = [origins[mask.numpy()] for mask in spans]
    assert {(int(piece[0, 1]), int(piece[-1, 1])) for piece in frames} == {(11, 25)}
    assert all((piece[:, 0] == 1).all() for piece in frames)
    assert found["yes"][0][found["yes_known"][0] > 0].tolist() == pytest.approx([0.95])


def test_of_a_piece_only_those_windows_count_that_end_in_it(tmp_path: Path) -> None:
    """The first 2.2 s of a clip: of windows that end at 1.5, 2.0, 2.5, 3.0 and 3.5 s the teacher's first two."""
    whole = toy_clip(tmp_path, 1)
    piece = replace(whole, luma=whole.luma[:22], times_s=whole.times_s[:22])
    found = lay(lesson(), INFO, piece, toy_recipe(), TEACHER).spans
    assert [(first, stop) for first, stop, _ in found] == [(1, 16), (6, 21)]
    assert [yes for *_, yes in found] == pytest.approx([0.05, 0.95])
    assert len(lay(lesson(), INFO, whole, toy_recipe(), TEACHER).spans) == 5


def test_teacher_times_speak_only_where_no_label_does(tmp_path: Path) -> None:
    recipe = toy_recipe()
    full = lay(lesson(), INFO, toy_clip(tmp_path, 1), recipe, TEACHER)
    assert not full.times_weights.any()
    open_end = lay(lesson(), INFO, toy_clip(tmp_path, 1, labelled_end=False), recipe, TEACHER)
    assert not open_end.times_weights[:, TOLD_START].any()
    assert not open_end.times_weights[:15, TOLD_END].any(), "a crash does not end before it begins, at 1.5 s"
    assert (open_end.times_weights[15:, TOLD_END] > 0.95).all(), "an instant that was smoothed is as sure as can be"
    # The density's peak, at 2.4 s, comes `heat_delay_frames` late.
    assert int(open_end.times[:, TOLD_END].argmax()) == 24 + recipe.targets.heat_delay_frames
    assert open_end.times[:, TOLD_END].max() == pytest.approx(1.0, abs=0.05)
    harmless = lay(lesson(), INFO, toy_clip(tmp_path, 2), recipe, TEACHER)
    assert not harmless.times_weights.any(), "without a crash there is no boundary to learn"


def test_behind_the_aftermath_of_a_crash_without_an_end_a_teacher_tells_whether_it_lasts(tmp_path: Path) -> None:
    """A start is labelled at 1.5 s, an aftermath lasts 1.5 s; the teacher's end is drawn around 3.4 s."""
    clip = toy_clip(tmp_path, 1, labelled_end=False)
    laid = lay(lesson(densities=bumps(0.7, 3.4, 0.2)), INFO, clip, toy_recipe(), TEACHER)
    assert laid.times_weights[:, TOLD_CRASH].tolist() == [0.0] * 31 + [1.0] * 9
    survival = 0.5 * torch.special.erfc(torch.from_numpy((clip.times_s[31:] + 0.05 - 3.4) / 0.2 / np.sqrt(2)))
    assert laid.times[31:, TOLD_CRASH] == pytest.approx(survival.numpy(), abs=0.02)


@pytest.mark.parametrize(("start_s", "end_s", "width_s"), [(0.8, 3.1, 0.05), (1.0, 1.4, 0.3), (1.5, 3.0, 0.8)])
def test_a_crash_is_as_likely_to_last_as_labels_drawn_from_the_teacher_s_densities_say(
    tmp_path: Path, start_s: float, end_s: float, width_s: float
) -> None:
    clip, recipe = toy_clip(tmp_path, 1), toy_recipe()
    nameless = replace(clip, label=without_label(clip.label))
    said = lesson(densities=bumps(start_s, end_s, width_s), yes=np.array([0.1, 0.8, 0.2, 0.2, 0.2], np.float32))
    found = lay(said, INFO, nameless, recipe, TEACHER).times[:, TOLD_CRASH]
    grid_s, shares = said.boundary_times_s, (np.arange(400) + 0.5) / 400
    drawn = [np.interp(shares, density.cumsum(), grid_s) for density in said.densities]
    labels = [replace(clip.label, start_s=first, end_s=last) for first, last in np.transpose(drawn).tolist()]
    truths = [frame_targets(clip.times_s, label, recipe.targets, recipe.pictures)[0][:, CRASH] for label in labels]
    assert found == pytest.approx(0.8 * np.mean(truths, axis=0), abs=0.02)
    assert found.max() > 0.4


@pytest.mark.parametrize("crash", [0.0, 0.25, 1.0])
def test_of_a_clip_without_labels_a_teacher_s_times_count_as_it_believes_in_a_crash(
    tmp_path: Path, crash: float
) -> None:
    recipe, whole = toy_recipe(), toy_clip(tmp_path, 1, labelled_end=False)
    said = lesson(yes=np.array([0.0, crash, 0.0, 0.0, 0.0], np.float32))
    sure = lay(said, INFO, whole, recipe, TEACHER)
    nameless = replace(whole, label=without_label(whole.label))
    laid = lay(said, INFO, nameless, recipe, TEACHER)
    assert laid.times[:, TOLD_END] == pytest.approx(crash * sure.times[:, TOLD_END], abs=1e-6)
    weights = crash * sure.times_weights[15:, TOLD_END] + 1 - crash
    assert laid.times_weights[15:, TOLD_END] == pytest.approx(weights, abs=1e-6)
    assert (laid.times_weights[:, TOLD_CRASH] == 1).all(), "a probability says by itself how sure it is"
    assert (laid.times[:, TOLD_START].max() > 0) == (laid.times[:, TOLD_CRASH].max() > 0) == (crash > 0)
    assert laid.spans == sure.spans
    assert len(laid.spans) == 5
    silent = lay(
        lesson(yes=np.zeros(0, np.float32), score_times_s=np.zeros(0, np.float32)), INFO, nameless, recipe, TEACHER
    )
    assert not silent.times_weights.any(), "a teacher that was not asked for a crash cannot say that there is none"


def test_sharpness_is_the_width_of_an_instant_by_the_density_s_own() -> None:
    grid_s = np.arange(200) / 10

    def density(sigma_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        found = np.exp(-0.5 * ((grid_s - 10) / sigma_s) ** 2)
        return (found / found.sum()).astype(np.float32)

    assert sharpness(density(0.3), 0.1, 0.3) == pytest.approx(1.0, abs=0.01)
    assert sharpness(density(1.2), 0.1, 0.3) == pytest.approx(0.25, abs=0.01)
    assert sharpness(np.full(200, 1 / 200, np.float32), 0.1, 0.3) == pytest.approx(0.3 / 0.1 * 4.1327 / 200, rel=1e-3)


def test_a_clip_that_was_not_taught_is_named(tmp_path: Path) -> None:
    clips = [toy_clip(tmp_path, 0)]
    with pytest.raises(ConfigError, match=r"0\.mp4.*edge-sdk distil teach"):
        Lessons(TeacherCache.create(tmp_path / "c", INFO), clips, toy_recipe(), TEACHER)


def test_features_are_judged_by_their_cosine() -> None:
    told = torch.randn(2, 5, TAUGHT, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[1.0, 1, 0, 0, 1], [0, 0, 0, 0, 0]])
    assert float(feature_loss(told, 3 * told, known)) == pytest.approx(0, abs=1e-6)
    assert float(feature_loss(told, -told, known)) == pytest.approx(2, abs=1e-6)
    assert float(feature_loss(told, torch.zeros_like(told), torch.zeros_like(known))) == 0
    other = torch.randn(2, 5, TAUGHT, generator=torch.Generator().manual_seed(1))
    each = [1 - torch.dot(a, b) / (a.norm() * b.norm()) for a, b in zip(told[0], other[0], strict=True)]
    assert float(feature_loss(told, other, known)) == pytest.approx(float(each[0] + each[1] + each[4]) / 3, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_scores_are_judged_by_torch_s_divergence(temperature: float) -> None:
    crash = torch.tensor([[-3.0, 0.5, 2.0, 1.0, -1.0, 0.0, 0.2, -2.0]])
    spans = torch.zeros(1, 2, 8, dtype=torch.bool)
    spans[0, 0, 1:8] = True
    spans[0, 1, :3] = True
    yes, known = torch.tensor([[0.8, 0.3]]), torch.ones(1, 2)
    assert PEAK_FRAMES == 5
    peaks = torch.tensor([(2.0 + 1.0 + 0.5 + 0.2 + 0.0) / 5, (2.0 + 0.5 - 3.0) / 3])
    teacher = Bernoulli(logits=torch.logit(yes[0]) / temperature)
    expected = kl_divergence(teacher, Bernoulli(logits=peaks / temperature)).mean() * temperature**2
    found = score_loss(crash, spans, yes, known, temperature)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    alone = score_loss(crash, spans, yes, torch.tensor([[1.0, 0.0]]), temperature)
    first = kl_divergence(Bernoulli(logits=teacher.logits[0]), Bernoulli(logits=peaks[0] / temperature))
    assert float(alone) == pytest.approx(float(first) * temperature**2, rel=1e-4)
    assert float(score_loss(crash, spans, yes, torch.zeros(1, 2), temperature)) == 0


def test_times_without_a_weight_teach_nothing() -> None:
    logits = torch.randn(1, 6, 3, requires_grad=True)
    soft, weights = torch.rand(1, 6, 3), torch.zeros(1, 6, 3)
    assert boundary_loss(logits, soft, weights).item() == 0
    weights[0, :3, 1] = 0.5
    loss = boundary_loss(logits, soft, weights)
    probability = torch.sigmoid(logits.detach())[0, :3, 1]
    each = -(soft[0, :3, 1] * probability.log() + (1 - soft[0, :3, 1]) * (1 - probability).log())
    assert loss.item() == pytest.approx(float(0.5 * each.mean()), rel=1e-5)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert not logits.grad[..., [0, 2]].any()


def test_terms_are_weighed_as_the_recipe_says(tmp_path: Path) -> None:
    clips = [toy_clip(tmp_path, number, labelled_end=False) for number in (0, 1)]
    lessons = Lessons(toy_cache(tmp_path / "c", clips), clips, toy_recipe(), TEACHER)
    batch = lessons.batch([np.array([[number, k] for k in range(40)]) for number in (0, 1)])
    logits = torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(2))
    told = torch.randn(2, 40, TAUGHT, generator=torch.Generator().manual_seed(3))
    parts = (
        0.5 * feature_loss(told, batch["taught"], batch["taught_known"])
        + 0.3 * score_loss(logits[..., 0], batch["spans"], batch["yes"], batch["yes_known"], 2.0)
        + 0.2 * boundary_loss(logits[..., [CRASH, START, END]], batch["times"], batch["times_weights"])
    )
    assert float(teacher_loss(logits, told, batch, TEACHER)) == pytest.approx(float(parts), rel=1e-5)
    assert float(boundary_loss(logits[..., [CRASH, START, END]], batch["times"], batch["times_weights"])) > 0
