"""The operating point's fits against truths known by construction and against scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score as sklearn_f1
from sklearn.metrics import precision_recall_curve

from edge_sdk.bundle.manifest import OperatingPoint, Residual, Student
from edge_sdk.calibration.operating_points import (
    MIX,
    Boundary,
    ScoredClip,
    fit_operating_point,
    fit_platt,
    fit_residuals,
    matched_timeline,
    mix_weights,
    peak_level,
    residual,
    stable_threshold,
    weighted_f1,
)
from edge_sdk.calibration.scenes.suite import read_suite
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.perception.timeline import FrameScores

STUDENT = Student(
    rate_hz=10.0,
    height=192,
    width=320,
    lags=(1, 3),
    scores=("crash", "pre_crash", "start", "end"),
    heat_delay_frames=5,
    operating_point=OperatingPoint(),
)


def clip(name: str, start_s: float | None) -> LabelledClip:
    return LabelledClip(
        path=Path(f"{name}.mp4"),
        view="dashcam",
        crash=start_s is not None,
        start_s=start_s,
        end_s=None if start_s is None else start_s + 2.0,
        pre_crash_s=None if start_s is None else start_s - 1.0,
        group=name,
    )


def scored_clip(name: str, rng: np.random.Generator, crash: bool) -> ScoredClip:
    """A crash scores 0.55 to 0.9 and its heat errs by a skewed noise; others stay under 0.45."""
    times = np.arange(100) / 10
    start_s = float(rng.uniform(3, 6)) if crash else None
    level = np.full(100, 0.05)
    heat, end_heat, pre = np.zeros(100), np.zeros(100), np.zeros(100)
    if start_s is None:
        level[30:50] = rng.uniform(0.1, 0.45)
    else:
        shown_s = start_s + rng.exponential(0.2)
        level[(times >= shown_s) & (times < start_s + 2)] = rng.uniform(0.55, 0.9)
        heat = 0.9 * np.exp(-((times - shown_s - 0.5) ** 2) / 0.08)
        end_heat = 0.9 * np.exp(-((times - start_s - 2.5) ** 2) / 0.08)
        pre[(times >= start_s - 1) & (times < start_s)] = 0.9
    columns = zip(times, level, pre, heat, end_heat, strict=True)
    return ScoredClip(clip(name, start_s), [FrameScores(*(float(v) for v in row)) for row in columns])


def test_the_fitted_point_separates_and_covers() -> None:
    rng = np.random.default_rng(1)
    fitted = [scored_clip(f"v{k}", rng, k % 2 == 0) for k in range(200)]
    point, report = fit_operating_point(STUDENT, fitted)
    assert report.f1 == 1.0
    assert report.pairs["crash_start"] == report.pairs["crash_end"] == 100
    assert 0.45 < point.confirm < 0.55
    assert point.release < point.provisional < point.confirm
    assert point.calibrated
    # Truth lies before what is shown, by an exponential of mean 0.2 s: the shift is minus its median, 0.139 s.
    assert point.crash_start.shift_s == pytest.approx(-0.139, abs=0.06)
    width_s = point.crash_start.hi_s - point.crash_start.lo_s
    # 80 % central width of that exponential: 0.2 * (ln 10 - ln (10 / 9))
    assert width_s == pytest.approx(0.2 * np.log(9), abs=0.12)


def test_a_crash_is_matched_with_the_event_nearest_to_it() -> None:
    times = np.arange(100) / 10
    level, heat = np.full(100, 0.01), np.zeros(100)
    for begin_s in (1.2, 5.0, 8.4):
        level[(times >= begin_s - 1e-9) & (times < begin_s + 0.6)] = 0.95
        heat += 0.9 * np.exp(-((times - begin_s - 0.5) ** 2) / 0.08)
    rows = [FrameScores(float(t), float(s), 0.0, float(h), 0.0) for t, s, h in zip(times, level, heat, strict=True)]
    for truth_s, expected_s in ((5.1, 5.0), (2.9, 1.2), (7.0, 8.4)):
        found = matched_timeline(STUDENT, clip("c", truth_s), rows)
        assert found is not None
        assert found.crash_start is not None
        assert found.crash_start.t == pytest.approx(expected_s, abs=0.2)


def test_without_labels_of_it_the_pre_crash_level_stays_and_its_interval_is_wide() -> None:
    rng = np.random.default_rng(8)
    found = [scored_clip(f"v{k}", rng, k % 2 == 0) for k in range(60)]
    plain = [ScoredClip(replace(item.clip, pre_crash_s=None), item.scores) for item in found]
    fitted_before = Residual(shift_s=-0.3, lo_s=-0.1, hi_s=0.1)
    old = msgspec.structs.replace(STUDENT.operating_point, pre_crash=0.45, pre_crash_start=fitted_before)
    student = msgspec.structs.replace(STUDENT, operating_point=old)
    point, report = fit_operating_point(student, plain)
    assert (point.pre_crash, report.pairs["pre_crash_start"]) == (0.45, 0)
    assert point.pre_crash_start == Residual(lo_s=-1.5, hi_s=1.5)
    assert fit_operating_point(student, found)[0].pre_crash_start.lo_s > -1.0


@pytest.mark.parametrize(("crashes", "fitted"), [(9, False), (10, True)])
def test_too_few_crashes_do_not_keep_an_interval_that_was_fitted_elsewhere(crashes: int, fitted: bool) -> None:
    rng = np.random.default_rng(9)
    tight = Residual(lo_s=-0.01, hi_s=0.01)
    old = msgspec.structs.replace(STUDENT.operating_point, crash_start=tight, crash_end=tight)
    found = [scored_clip(f"v{k}", rng, True) for k in range(crashes)]
    point, pairs = fit_residuals(msgspec.structs.replace(STUDENT, operating_point=old), found)
    assert len(pairs["crash_start"]) == crashes
    assert (point.crash_start == Residual(lo_s=-1.0, hi_s=1.0)) is not fitted
    assert point.crash_start != tight


def test_an_interval_covers_eighty_percent_of_new_errors() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.gamma(2.0, 0.3, 2000), rng.gamma(2.0, 0.3, 20000)
    found = residual([Boundary(0.0, float(e)) for e in old])
    inside = (new >= found.shift_s + found.lo_s) & (new <= found.shift_s + found.hi_s)
    assert inside.mean() == pytest.approx(0.8, abs=0.02)


def test_the_bounds_of_an_interval_have_the_ranks_of_split_conformal_prediction() -> None:
    """The floor((n + 1) / 10)-th smallest error and the ceil(9 (n + 1) / 10)-th, in fractions; the ends of few."""
    rng = np.random.default_rng(10)
    for count in range(5, 1001):
        errors = np.arange(count) - (count - 1) / 2
        found = residual([Boundary(0.0, float(error)) for error in rng.permutation(errors)])
        low = max(math.floor(Fraction(count + 1, 10)), 1)
        high = min(math.ceil(Fraction(9 * (count + 1), 10)), count)
        assert (found.shift_s, found.lo_s, found.hi_s) == (0.0, errors[low - 1], errors[high - 1]), count


def test_platt_agrees_with_logistic_regression() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-(1.7 * logits - 0.6)))
    raw = 1 / (1 + np.exp(-logits))
    scale, offset = fit_platt(raw, labels)
    reference = LogisticRegression(C=1e9).fit(logits[:, None], labels)
    assert scale == pytest.approx(float(reference.coef_[0, 0]), abs=0.02)
    assert offset == pytest.approx(float(reference.intercept_[0]), abs=0.02)


def test_platt_weighs_clips_as_logistic_regression_does() -> None:
    rng = np.random.default_rng(5)
    logits, weights = rng.normal(0, 2, 4000), rng.uniform(0.2, 3, 4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-(1.2 * logits + 0.3)))
    scale, offset = fit_platt(1 / (1 + np.exp(-logits)), labels, weights)
    reference = LogisticRegression(C=1e9).fit(logits[:, None], labels, sample_weight=weights)
    assert scale == pytest.approx(float(reference.coef_[0, 0]), abs=0.02)
    assert offset == pytest.approx(float(reference.intercept_[0]), abs=0.02)


def test_the_mix_is_that_of_the_suite_and_weights_restore_it() -> None:
    scenes = read_suite().scenes
    kinds = ["crash" if scene.crash else "near_miss" if scene.kind == "near_miss" else "normal" for scene in scenes]
    assert {kind: kinds.count(kind) / len(kinds) for kind in MIX} == MIX
    clips = [clip(f"c{k}", 2.0) for k in range(30)] + [clip(f"n{k}", None) for k in range(10)]
    weights = mix_weights(clips)
    assert weights.mean() == pytest.approx(1)
    assert weights[:30].sum() / weights.sum() == pytest.approx(MIX["crash"] / (MIX["crash"] + MIX["normal"]))


def test_the_threshold_moves_less_than_the_best_one_and_scores_better_on_new_clips() -> None:
    rng = np.random.default_rng(6)

    def draw(count: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        labels = rng.random(count) < 0.4
        return labels, 1 / (1 + np.exp(-rng.normal(np.where(labels, 0.8, -0.8), 1)))

    new, new_peaks = draw(20000)
    best, stable = [], []
    for _ in range(60):
        labels, peaks = draw(100)
        precision, recall, cuts = precision_recall_curve(labels, peaks)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        best.append(float(cuts[f1[:-1].argmax()]))
        stable.append(stable_threshold(peaks, labels, np.ones(100)))
    assert np.std(stable) < np.std(best)
    scores = [np.mean([sklearn_f1(new, new_peaks >= cut) for cut in cuts]) for cuts in (stable, best)]
    assert scores[0] > scores[1]


def test_weighted_f1_equals_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    labels, detected, weights = rng.random(200) < 0.4, rng.random(200) < 0.5, rng.uniform(0.1, 2, 200)
    expected = sklearn_f1(labels, detected, sample_weight=weights)
    assert weighted_f1(labels, detected, weights) == pytest.approx(expected)


def test_platt_stays_finite_on_separable_scores() -> None:
    labels = np.array([False] * 30 + [True] * 30)
    raw: NDArray[np.float64] = np.where(labels, 0.9, 0.1)
    assert all(np.isfinite(fit_platt(raw, labels)))


def test_peak_level_is_the_running_mean_from_the_first_frame() -> None:
    rows = [FrameScores(k / 10, crash, 0, 0, 0) for k, crash in enumerate([0.9, 0.0, 0.6, 0.6])]
    assert peak_level(rows, 1) == pytest.approx(0.9)
    assert peak_level(rows, 3) == pytest.approx(0.5)
    assert peak_level([], 3) == 0.0


@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_a_student_that_says_the_same_of_all_clips_is_refused(score: float) -> None:
    rows = [FrameScores(k / 10, score, 0.0, 0.0, 0.0) for k in range(80)]
    same = [ScoredClip(clip(f"v{k}", 4.0 if k % 2 else None), rows) for k in range(40)]
    with pytest.raises(ConfigError, match=f"found {score:.3f} for all 40: the student has learnt nothing"):
        fit_operating_point(STUDENT, same)


@pytest.mark.parametrize("crash", [True, False])
def test_clips_of_one_kind_are_not_enough(crash: bool) -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(ConfigError, match="crashes and others"):
        fit_operating_point(STUDENT, [scored_clip(f"v{k}", rng, crash) for k in range(40)])
