"""Held-out students judge the clips they have not seen, and scales are fitted without the fold they are used on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_sdk.benchmarks.fold_scorers import FoldScorer
from edge_sdk.benchmarks.real_clips import gains_of, in_folds, named, scorers_of
from edge_sdk.benchmarks.reliability import cross_fitted, reliability
from edge_sdk.bundle import Bundle, rewrite, write_bundle
from edge_sdk.bundle.manifest import Graph, OperatingPoint, Student
from edge_sdk.bundle.student_origin import CLIPS_SEEN, mark_of
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Guess, Sample
from edge_sdk.evaluation.detail import Detail, encode_footage, picture_bytes
from edge_sdk.evaluation.folds import fold_bundle, write_folds
from edge_sdk.evaluation.rows import Answers
from edge_sdk.picture import draw_reliability
from edge_sdk.types import TensorSpec

SIDE = 32


def write_constant(folder: Path, score: float) -> None:
    """A student that says `score` of every frame."""
    nodes = [
        helper.make_node("ReduceMean", ["frames"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "said"], ["scores"]),
    ]
    tensors = [
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("said", TensorProto.FLOAT, [4], [score] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["streams", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["streams", 4])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = Graph(
        file="student.onnx",
        dialects=("native", "decomposed"),
        opset=17,
        inputs=(TensorSpec(name="frames", dtype="float32", shape=("streams", 3, SIDE, SIDE)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=("streams", 4)),),
        state=(),
    )
    student = Student(
        rate_hz=10.0,
        height=SIDE,
        width=SIDE,
        lags=(1, 3),
        scores=("crash", "pre_crash", "start", "end"),
        heat_delay_frames=5,
        operating_point=OperatingPoint(),
    )
    write_bundle(
        folder,
        name="constant",
        version="1",
        graphs={"student": entry},
        files={"student.onnx": bytes(model.SerializeToString())},
        student=student,
        provenance={},
    )


def labelled(name: str) -> LabelledClip:
    return LabelledClip(
        path=Path(f"{name}.mp4"),
        view="dashcam",
        crash=False,
        start_s=None,
        end_s=None,
        pre_crash_s=None,
        group=name,
    )


def test_a_clip_is_judged_by_the_student_of_its_fold(tmp_path: Path) -> None:
    write_folds(tmp_path, [labelled("a"), labelled("cam.1")], {"a": 1, "cam.1": 0})
    for fold, score in ((0, 0.25), (1, 0.75)):
        write_constant(fold_bundle(tmp_path, fold), score)
    scorer = FoldScorer(tmp_path)
    frames = np.full((12, picture_bytes(130, 130)), 128, np.uint8)
    for name, expected in (("a", 0.75), ("cam.1", 0.25)):
        path = tmp_path / f"{name}.crash.mp4"
        encode_footage(frames, path, Detail())
        assert scorer(path).crash == pytest.approx([expected] * 12)
    with pytest.raises(ConfigError, match="has no fold for the clip 'c'"):
        scorer(tmp_path / "c.crash.mp4")


def test_other_folds_or_bundles_are_another_scorer(tmp_path: Path) -> None:
    found = set()
    for number, (folds, scores) in enumerate(
        [({"a": 1, "b": 0}, (0.25, 0.75)), ({"a": 0, "b": 1}, (0.25, 0.75)), ({"a": 1, "b": 0}, (0.25, 0.5))]
    ):
        folder = tmp_path / str(number)
        write_folds(folder, [labelled("a"), labelled("b")], folds)
        for fold, score in enumerate(scores):
            write_constant(fold_bundle(folder, fold), score)
        found.add(FoldScorer(folder).identity())
        assert FoldScorer(folder).identity() in found
    assert len(found) == 3


def test_folds_of_other_clips_are_refused(tmp_path: Path) -> None:
    write_folds(tmp_path, [labelled("a"), labelled("b")], {"a": 1, "b": 0})
    scorer = FoldScorer(tmp_path)
    scorer.check([labelled("a"), labelled("b")], {"a": 1, "b": 0})
    with pytest.raises(ConfigError, match=r"other folds: b is in 0 there and in 2 of --count 3 here"):
        scorer.check([labelled("a"), labelled("b")], {"a": 1, "b": 2})
    with pytest.raises(ConfigError, match=r"other folds: c is in None there"):
        scorer.check([labelled("a"), labelled("c")], {"a": 1, "c": 0})


def test_a_scale_is_fitted_without_the_fold_it_is_used_on() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 3000)
    truth = rng.random(3000) < 1 / (1 + np.exp(-logit))
    fold = np.arange(3000) % 3
    # Scores three times too sure: the true scale is a third.
    score = 1 / (1 + np.exp(-3 * logit))
    said = cross_fitted(truth.tolist(), score.tolist(), fold.tolist())
    assert np.abs(said - 1 / (1 + np.exp(-logit))).mean() < 0.02
    turned = np.where(fold == 0, ~truth, truth)
    again = cross_fitted(turned.tolist(), score.tolist(), fold.tolist())
    assert np.array_equal(again[fold == 0], said[fold == 0])
    assert not np.allclose(again[fold == 1], said[fold == 1])


class Fixed:
    """Scores a sample by its number, right with the given skill."""

    def __init__(self, name: str, skill: float) -> None:
        self.name, self._skill = name, skill

    def __call__(self, path: Path) -> ClipScores:
        number = int(path.stem)
        times = np.arange(30) / 10
        crash = np.random.default_rng(number).normal(size=30) + self._skill * ((times >= 1) & (times <= 2))
        score = 1 / (1 + np.exp(-float(crash.max()) - self._skill * (number % 2)))
        return ClipScores(frame_times_s=times, crash=crash, score=score, guesses=(Guess(start_s=1.0),))


def samples() -> list[Sample]:
    return [
        Sample(
            path=Path(f"{number}.mp4"),
            track=track,
            kind="crash" if number % 2 else "normal",
            set="test",
            view="dashcam" if number % 4 < 2 else "roadside",
            group=f"g{number}",
            duration_s=3.0,
            start_s=1.0 if number % 2 else None,
            end_s=2.0 if number % 2 else None,
        )
        for track in ("windows", "streams")
        for number in range(24)
    ]


def test_every_scorer_is_compared_on_every_track_and_view() -> None:
    gains = gains_of(Fixed("good", 3.0), [Fixed("bad", 0.0), Fixed("same", 3.0)], samples(), seed=0)
    assert len(gains) == 5 * 3 * 2
    found = {(gain.view, gain.track, gain.metric, gain.other): gain.gain for gain in gains}
    better = found["all", "streams", "frame AUC", "bad"]
    assert better.lo is not None
    assert better.lo > 0.2
    assert all(gain.gain.value == 0 for gain in gains if gain.other == "same")


def test_every_scorer_is_ranked_within_folds_on_every_view() -> None:
    folds = {f"g{number}": number // 12 for number in range(24)}
    good = Fixed("good", 3.0)
    found = in_folds(good, [Fixed("bad", 0.0), good], samples(), folds, seed=0)
    assert len(found) == 3 * 2 * 2
    by = {(each.view, each.metric, each.scorer): each for each in found}
    assert by["all", "clip AUC in folds", "good"].value.value == 1.0
    assert by["all", "clip AUC in folds", "good"].gain.value == 0.0
    bad = by["all", "clip AUC in folds", "bad"]
    assert bad.value.value is not None
    assert bad.gain.value == pytest.approx(1.0 - bad.value.value)


def test_a_student_that_has_seen_the_clips_is_not_judged_on_them(tmp_path: Path) -> None:
    clips = [replace(labelled(name), path=tmp_path / f"{name}.mp4") for name in ("a", "b")]
    for clip in clips:
        clip.path.write_bytes(clip.group.encode())
    write_constant(tmp_path / "new", 0.5)
    new = Bundle.open(tmp_path / "new")
    tuned = rewrite(new, tmp_path / "tuned", provenance={CLIPS_SEEN: [mark_of(clips[1])]})
    scorers, students = scorers_of([f"new={new.folder}"], [], clips, tmp_path)
    assert scorers[-1].name == "new"
    assert students == {"new": f"constant {new.sha256[:12]}"}
    with pytest.raises(ConfigError, match=r"was trained on 1 of 2, b\.mp4 first"):
        scorers_of([f"new={new.folder}", f"tuned={tuned.folder}"], [], clips, tmp_path)


def test_the_picture_shows_what_was_measured(tmp_path: Path) -> None:
    scorer, shown = Fixed("good", 3.0), samples()[:24]
    answers = Answers(scorer="good", samples=shown, scores=[scorer(sample.path) for sample in shown])
    said = np.array([0.9 if sample.crash else 0.2 for sample in shown])
    found = reliability(answers, said, seed=0, rounds=20)
    # Crashes were given .9 and happened always, the others .2 and never.
    assert found.ece.value == pytest.approx((0.1 + 0.2) / 2)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
    draw_reliability({"good": found}, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def test_a_name_without_a_path_is_refused() -> None:
    assert named("a b=c/d") == ("a b", Path("c/d"))
    with pytest.raises(ConfigError, match="NAME=PATH"):
        named("bundle")
