"""Training on a toy: it learns what is there, resumes exactly, and leaves a bundle that runs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.export.distil import Recipe, evaluate, load_recipe, student, train
from edge_sdk.export.distil.data import CachedClip, load_clips
from edge_sdk.export.distil.late_features import LateFeatures
from edge_sdk.export.distil.recipe import Head, Late, Pictures, Stage
from edge_sdk.export.distil.windows import WindowSampler
from edge_sdk.export.distil.workers import Workers
from edge_sdk.export.graphs.student import Student, StudentShape
from edge_sdk.perception.planes import window_planes
from edge_sdk.types import Frame
from edge_sdk.verify import verify

FRAMES, HEIGHT, WIDTH = 40, 32, 64


def toy_recipe(epochs: int) -> tuple[Recipe, str]:
    recipe, _ = load_recipe("student-demo")
    changed = msgspec.structs.replace(
        recipe,
        shape=StudentShape(stages=(8, 8, 16, 16), features=16, grid_dilations=(1,), dilations=(1, 2)),
        pictures=Pictures(rate_hz=10.0, height=HEIGHT, width=WIDTH, lags=(1, 3)),
        windows=msgspec.structs.replace(recipe.windows, frames=24),
        optimiser=msgspec.structs.replace(recipe.optimiser, average=0.8, learning_rate=0.01, bfloat16=False),
        stages=(Stage(epochs=epochs, height=HEIGHT, width=WIDTH, windows=4, micro=1),),
        late=None,
        head=None,
        onward=None,
    )
    return changed, f"toy of {epochs} epochs"


def picture(number: int, t: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A grey street; in odd clips a large flicker from frame 15 to 24, which is what this world calls a crash."""
    frame = np.full((HEIGHT, WIDTH), 90 + number % 7, np.uint8)
    if number % 2 and 15 <= t < 25:
        frame[8:24, 16:48] = 220 if t % 2 else 20
    return frame


def read_toy(path: Path, pictures: Pictures) -> Iterator[Frame]:
    for t in range(FRAMES):
        yield Frame(pixels=picture(int(path.stem), t), time_s=t / 10, sequence=t, captured_s=0.0)


def toy_clips(folder: Path, numbers: range) -> list[LabelledClip]:
    made = []
    for number in numbers:
        path = folder / f"{number}.mp4"
        path.write_text(str(number))
        crash = bool(number % 2)
        times = (1.5, 2.4, 1.0) if crash else (None, None, None)
        made.append(
            LabelledClip(
                path=path,
                view="roadside",
                crash=crash,
                start_s=times[0],
                end_s=times[1],
                pre_crash_s=times[2],
                group=path.stem,
            )
        )
    return made


def toy_cached(folder: Path, numbers: range) -> list[CachedClip]:
    return [
        CachedClip(np.stack([picture(number, t) for t in range(FRAMES)]), np.arange(FRAMES) / 10, label)
        for number, label in zip(numbers, toy_clips(folder, numbers), strict=True)
    ]


@pytest.fixture
def toy_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come from `picture`, not from a decoder: the toy's clips are not videos."""
    monkeypatch.setattr(
        student, "load_clips", lambda clips, folder, pictures, on: load_clips(clips, folder, pictures, on, read_toy)
    )


@pytest.mark.usefixtures("toy_reader")
def test_training_learns_the_toy_and_its_bundle_runs(tmp_path: Path) -> None:
    notes: list[str] = []
    clips, held_out = toy_clips(tmp_path, range(16)), toy_clips(tmp_path, range(100, 108))
    recipe, text = toy_recipe(epochs=8)
    train(recipe, text, clips, held_out, tmp_path / "b", tmp_path / "w", lambda _, __, note: notes.append(note))
    metrics = msgspec.json.decode((tmp_path / "w" / "metrics.json").read_bytes())
    assert metrics["clip_auc"] > 0.9
    assert metrics["start_mae_s"] < 0.6
    assert any("loss" in note for note in notes)
    assert (tmp_path / "w" / "curves.png").stat().st_size > 1000
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.provenance["recipe"] == text
    assert bundle.manifest.student is not None
    assert bundle.manifest.student.heat_delay_frames == recipe.targets.heat_delay_frames
    assert verify(bundle, "ort").ok


@pytest.mark.usefixtures("toy_reader")
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    clips, held_out = toy_clips(tmp_path, range(8)), toy_clips(tmp_path, range(100, 104))
    recipe, text = toy_recipe(epochs=2)

    class Interrupted(Exception):
        pass

    def stop_in_the_second_epoch(done: int, total: int, note: str) -> None:
        if "epoch 2/2" in note:
            raise Interrupted

    train(recipe, text, clips, held_out, tmp_path / "whole", tmp_path / "one")
    with pytest.raises(Interrupted):
        train(recipe, text, clips, held_out, tmp_path / "parts", tmp_path / "two", stop_in_the_second_epoch)
    assert not (tmp_path / "parts").exists()
    train(recipe, text, clips, held_out, tmp_path / "parts", tmp_path / "two")
    graphs = [(tmp_path / name / "student.onnx").read_bytes() for name in ("whole", "parts")]
    assert graphs[0] == graphs[1]


def longer_recipe() -> tuple[Recipe, str]:
    """The toy with the two stages that learn from stored features."""
    recipe, _ = toy_recipe(epochs=4)
    late = Late(
        copies=2, epochs=2, windows=4, micro=2, learning_rate=3e-3, average=0.8, window_weight=1.0, map_weight=0.5
    )
    head = Head(epochs=8, windows=4, dropout=(0.1, 0.1), learning_rate=5e-3, average=0.8, window_weight=0.5)
    return msgspec.structs.replace(recipe, late=late, head=head), "a longer toy"


@pytest.mark.usefixtures("toy_reader")
def test_later_stages_leave_pictures_alone_and_end_as_they_would_uninterrupted(tmp_path: Path) -> None:
    clips, held_out = toy_clips(tmp_path, range(16)), toy_clips(tmp_path, range(100, 108))
    recipe, text = longer_recipe()

    class Interrupted(Exception):
        pass

    def stop_in_the_second_late_epoch(done: int, total: int, note: str) -> None:
        if "late epoch 2/2" in note:
            raise Interrupted

    train(recipe, text, clips, held_out, tmp_path / "whole", tmp_path / "one")
    with pytest.raises(Interrupted):
        train(recipe, text, clips, held_out, tmp_path / "parts", tmp_path / "two", stop_in_the_second_late_epoch)
    train(recipe, text, clips, held_out, tmp_path / "parts", tmp_path / "two")
    graphs = [(tmp_path / name / "student.onnx").read_bytes() for name in ("whole", "parts")]
    assert graphs[0] == graphs[1]
    early, late = (
        torch.load(next((tmp_path / "one").glob(f"{stage}-*.pt")), weights_only=True)["average"]
        for stage in ("checkpoint", "late")
    )
    same = {name: torch.equal(value, late[name]) for name, value in early.items()}
    assert all(same[name] for name in same if ".picture." in name)
    assert not any(same[name] for name in same if ".grid." in name and name.endswith("conv.weight"))
    bundle = Bundle.open(tmp_path / "whole")
    assert len(bundle.manifest.provenance["losses"]) == 4 + 2 + 8
    metrics = msgspec.json.decode((tmp_path / "one" / "metrics.json").read_bytes())
    assert metrics["clip_auc"] > 0.9
    assert verify(bundle, "ort").ok


@pytest.mark.usefixtures("toy_reader")
def test_later_stages_of_other_weights_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of accelerate, as on a GPU, the same recipe and clips make other weights."""
    clips, held_out = toy_clips(tmp_path, range(8)), toy_clips(tmp_path, range(100, 104))
    whole, text = longer_recipe()
    recipe = msgspec.structs.replace(whole, stages=tuple(msgspec.structs.replace(s, epochs=1) for s in whole.stages))
    train(recipe, text, clips, held_out, tmp_path / "cpu", tmp_path / "work")
    monkeypatch.setattr(student, "spread", lambda cache: True)
    for out, work in (("again", "work"), ("fresh", "other")):
        train(recipe, text, clips, held_out, tmp_path / out, tmp_path / work)
    cpu, again, fresh = ((tmp_path / name / "student.onnx").read_bytes() for name in ("cpu", "again", "fresh"))
    assert again == fresh != cpu


def test_kept_features_are_what_the_pictures_give(tmp_path: Path) -> None:
    clips = toy_cached(tmp_path, range(3))
    recipe, _ = longer_recipe()
    torch.manual_seed(4)
    model = Student(recipe.shape).eval()
    left_by_a_killed_run = tmp_path / ".f-0.tmp-999999999-00c0ffee.u8"
    left_by_a_killed_run.write_bytes(b"half")
    features = LateFeatures(model, recipe, clips, tmp_path / "f", lambda done, total: None)
    assert not left_by_a_killed_run.exists()
    assert (tmp_path / "f-1.u8").stat().st_size == 3 * FRAMES * 16 * (HEIGHT // 16) * (WIDTH // 16)
    pooled = features.pooled(model, 0)
    with torch.inference_mode():
        for number, clip in enumerate(clips):
            planes = torch.from_numpy(window_planes(clip.luma, recipe.pictures.lags))
            seen = model.picture(planes)[None]
            expected = model.gather(seen)[0][0].numpy()
            found = pooled[number * FRAMES : (number + 1) * FRAMES]
            assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_kept_features_are_read_by_the_scale_that_they_were_kept_by(tmp_path: Path) -> None:
    """Whatever a new measurement would give; here the clips of the second run are darker, and not looked at."""
    recipe, _ = longer_recipe()
    model = Student(recipe.shape).eval()
    clips = toy_cached(tmp_path, range(3))
    darker = [dataclasses.replace(clip, luma=clip.luma // 2) for clip in clips]
    first, again, other = (
        LateFeatures(model, recipe, some, tmp_path / stem, lambda done, total: None).pooled(model, 0)
        for some, stem in ((clips, "f"), (darker, "f"), (darker, "g"))
    )
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(other, first)


def test_a_place_shorter_than_a_window_repeats_its_first_frame(tmp_path: Path) -> None:
    recipe, _ = longer_recipe()
    recipe = msgspec.structs.replace(recipe, windows=msgspec.structs.replace(recipe.windows, frames=FRAMES + 9))
    clips = toy_cached(tmp_path, range(3))
    model = Student(recipe.shape).eval()
    features = LateFeatures(model, recipe, clips, tmp_path / "f", lambda done, total: None)
    place = features.place(np.random.default_rng(0), 1)
    assert place.frames.tolist() == [FRAMES] * 9 + list(range(FRAMES, 2 * FRAMES))
    warm = recipe.windows.warm_up_weight
    assert (place.weights[:19] == warm).all()
    assert (place.weights[19:] == 1).all()
    assert place.targets[:, 0].sum() == pytest.approx(16)


def test_footage_before_a_cut_teaches_no_maps(tmp_path: Path) -> None:
    """The renderer leaves boxes out before a cut; behind it every frame has the incident's vehicles, seen or hidden."""
    recipe, _ = longer_recipe()
    boxes = np.zeros((FRAMES, 2, 6), np.float32)
    boxes[18:, :, 5] = (1, 0)
    clips = [dataclasses.replace(clip, boxes=boxes) for clip in toy_cached(tmp_path, range(3))]
    sampler = WindowSampler(clips, recipe, HEIGHT, WIDTH)
    model = Student(recipe.shape).eval()
    features = LateFeatures(model, recipe, clips, tmp_path / "f", lambda done, total: None)
    cut = 0
    for seed in range(30):
        example = sampler.draw(np.random.default_rng(seed), 1)
        np.testing.assert_array_equal(example.map_weights, example.origins[:, 1] >= 18)
        place = features.place(np.random.default_rng(seed), 1)
        window = features.draw(np.random.default_rng(seed), 1)
        np.testing.assert_array_equal(window.map_weights, place.frames - FRAMES >= 18)
        cut += 0 < window.map_weights.sum() < len(window.map_weights)
    assert cut > 10


def test_training_needs_clips_on_both_sides(tmp_path: Path) -> None:
    recipe, text = toy_recipe(epochs=1)
    with pytest.raises(ConfigError, match="found 0 to train on"):
        train(recipe, text, [], toy_clips(tmp_path, range(2)), tmp_path / "b", tmp_path / "w")


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_two_workers_give_the_gradient_of_one(dropout: float) -> None:
    """Masks of dropout too are the windows' own, not those of the thread that came first."""
    torch.manual_seed(0)
    model = Student(StudentShape(stages=(8, 8, 8, 8), features=8, grid_dilations=(1,), dilations=(1,)))
    model.drop(dropout, dropout).train()
    windows = torch.randn(4, 6, 3, 32, 32)

    def run(replica: Student, numbers: list[int]) -> float:
        logits, maps = replica(windows[numbers])
        loss = (logits.square().mean() + maps.square().mean()) / 4
        loss.backward()
        return float(loss.detach())

    alone, shared = copy.deepcopy(model), copy.deepcopy(model)
    for trained, count in ((alone, 1), (shared, 2)):
        with Workers(trained, count) as workers:
            workers.step(4, 1, run, [5, 6])  # type: ignore[arg-type]
    for one, two in zip(alone.parameters(), shared.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=1e-4)


def test_windows_begin_anywhere_and_some_are_joined(tmp_path: Path) -> None:
    clips = [
        CachedClip(
            np.stack([np.full((HEIGHT, WIDTH), 10 * number + t // 8, np.uint8) for t in range(FRAMES)]),
            np.arange(FRAMES) / 10,
            label,
        )
        for number, label in enumerate(toy_clips(tmp_path, range(10)))
    ]
    recipe, _ = toy_recipe(epochs=1)
    sampler = WindowSampler(clips, recipe, HEIGHT, WIDTH)
    examples = [sampler.draw(np.random.default_rng(seed), 3) for seed in range(120)]
    assert {example.planes.shape for example in examples} == {(24, 3, HEIGHT, WIDTH)}
    onsets = {int(np.argmax(example.targets[:, 0])) for example in examples if example.targets[:, 0].any()}
    assert len(onsets) > 8
    warm = recipe.windows.warm_up_weight
    assert all((example.weights[:10] == warm).all() and (example.weights[10:] == 1).all() for example in examples)


def test_a_long_clip_is_scored_in_pieces_as_it_would_be_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = toy_recipe(1)
    torch.manual_seed(3)
    model = Student(recipe.shape).eval()
    luma = np.random.default_rng(0).integers(0, 256, (97, HEIGHT, WIDTH), np.uint8)
    clip = CachedClip(luma, np.arange(97) / 10, toy_label())
    whole = evaluate.score_clip(model, clip, recipe, HEIGHT, WIDTH)
    monkeypatch.setattr(evaluate, "PIECE_FRAMES", 20)
    pieces = evaluate.score_clip(model, clip, recipe, HEIGHT, WIDTH)
    assert whole.shape == pieces.shape == (97, 4)
    assert np.ptp(whole[:, 0]) > 1e-4
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def toy_label() -> LabelledClip:
    return LabelledClip(
        path=Path("long.mp4"), view="roadside", crash=False, start_s=None, end_s=None, pre_crash_s=None, group="long"
    )
