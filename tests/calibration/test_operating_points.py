"""The operating point's fits against truths known by construction and against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_sdk.calibration.operating_points import (
    Boundary,
    ScoredClip,
    fit_operating_point,
    fit_platt,
    peak_level,
    residual,
)
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.manifest import OperatingPoint, Student
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
    assert 0.45 < point.confirm < 0.55
    assert point.release < point.provisional < point.confirm
    assert point.calibrated
    # Truth lies before what is shown, by an exponential of mean 0.2 s: the shift is minus its median, 0.139 s.
    assert point.crash_start.shift_s == pytest.approx(-0.139, abs=0.06)
    width_s = point.crash_start.hi_s - point.crash_start.lo_s
    # 80 % central width of that exponential: 0.2 * (ln 10 - ln (10 / 9))
    assert width_s == pytest.approx(0.2 * np.log(9), abs=0.12)


def test_an_interval_covers_eighty_percent_of_new_errors() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.gamma(2.0, 0.3, 2000), rng.gamma(2.0, 0.3, 20000)
    found = residual([Boundary(0.0, float(e)) for e in old])
    inside = (new >= found.shift_s + found.lo_s) & (new <= found.shift_s + found.hi_s)
    assert inside.mean() == pytest.approx(0.8, abs=0.02)


def test_platt_agrees_with_logistic_regression() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-(1.7 * logits - 0.6)))
    raw = 1 / (1 + np.exp(-logits))
    scale, offset = fit_platt(raw, labels)
    reference = LogisticRegression(C=1e9).fit(logits[:, None], labels)
    assert scale == pytest.approx(float(reference.coef_[0, 0]), abs=0.02)
    assert offset == pytest.approx(float(reference.intercept_[0]), abs=0.02)


def test_platt_stays_finite_on_separable_scores() -> None:
    labels = np.array([False] * 30 + [True] * 30)
    raw: NDArray[np.float64] = np.where(labels, 0.9, 0.1)
    assert all(np.isfinite(fit_platt(raw, labels)))


def test_peak_level_is_the_running_mean_from_the_first_frame() -> None:
    rows = [FrameScores(k / 10, crash, 0, 0, 0) for k, crash in enumerate([0.9, 0.0, 0.6, 0.6])]
    assert peak_level(rows, 1) == pytest.approx(0.9)
    assert peak_level(rows, 3) == pytest.approx(0.5)
    assert peak_level([], 3) == 0.0


@pytest.mark.parametrize("crash", [True, False])
def test_clips_of_one_kind_are_not_enough(crash: bool) -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(ConfigError, match="crashes and others"):
        fit_operating_point(STUDENT, [scored_clip(f"v{k}", rng, crash) for k in range(40)])
