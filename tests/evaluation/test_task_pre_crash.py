"""Pre-crash scores against the rules written out, and the numbers that the validation labels imply."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.evaluation.boundaries import TOLERANCE
from edge_sdk.evaluation.tasks import pre_crash, read_annotations
from edge_sdk.evaluation.tasks.blind import choose
from edge_sdk.evaluation.tasks.draws import Draws

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def labels(shared_data: Path) -> tuple[Floats, Floats]:
    """Warning signs and crash starts of the validation files."""
    annotations = read_annotations(shared_data / "crashchat-val")
    videos = sorted(annotations.of("pre_crash_time"))
    sign = [float(annotations.of("pre_crash_time")[video].answer.split()[0]) for video in videos]
    crash = [float(annotations.of("crash_interval")[video].answer.split()[0]) for video in videos]
    return np.array(sign), np.array(crash)


def by_rules(sign: float, answer: float, crash: float) -> float:
    if answer >= crash or answer < sign - 0.5:
        return 0.0
    return 1.0 if answer < sign else (crash - answer) / (crash - sign)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(2.0, 1.0), (1.5, 1.0), (1.49, 0.0), (2.75, 0.5), (3.5, 0.0), (9.0, 0.0), (0.0, 0.0), (float("nan"), 0.0)],
)
def test_a_sign_at_2_s_and_a_crash_at_3_5_s(answer: float, expected: float) -> None:
    assert pre_crash.reference_iou([2.0], [answer], [3.5]).tolist() == [expected]


def test_an_answer_at_the_crash_is_too_late_even_for_a_sign_labelled_behind_it() -> None:
    assert pre_crash.reference_iou([2.0, 2.0], [1.8, 1.7], [1.8, 1.8]).tolist() == [0.0, 1.0]


def test_random_answers_score_by_the_rules(labels: tuple[Floats, Floats]) -> None:
    sign, crash = labels
    answers = sign + np.random.default_rng(0).normal(0, 1.5, sign.size).round(1)
    expected = [by_rules(*row) for row in zip(sign, answers, crash, strict=True)]
    np.testing.assert_allclose(pre_crash.reference_iou(sign, answers, crash), expected)


def test_half_a_second_early_in_tenths_is_not_always_in_time_for_the_reference(labels: tuple[Floats, Floats]) -> None:
    sign, crash = labels
    early = (sign - 0.5).round(1)
    plain = pre_crash.reference_iou(sign, early, crash)
    assert int((plain == 0).sum()) == 45
    assert pre_crash.reference_iou(sign, early, crash, tolerance_s=TOLERANCE).min() == 1.0
    tenth_too_early = pre_crash.reference_iou(sign, early - 0.1, crash, tolerance_s=TOLERANCE)
    assert tenth_too_early.max() == 0.0


def test_numbers_of_the_validation_labels(labels: tuple[Floats, Floats]) -> None:
    """On the test labels these are 0.287 (at 3.0 s), 0.726 and 467 of 1,162."""
    sign, crash = labels
    assert pre_crash.reference_iou(sign, np.full_like(sign, 3.0), crash).mean() == pytest.approx(0.2751, abs=5e-5)
    assert pre_crash.reference_iou(sign, crash - 1.5, crash).mean() == pytest.approx(0.7105, abs=5e-5)
    assert int((np.abs(crash - sign - 1.5) < 1e-6).sum()) == 432
    assert sign.size == 1139


def test_the_best_constant_time(shared_data: Path, labels: tuple[Floats, Floats]) -> None:
    sign, crash = labels
    best = choose(read_annotations(shared_data / "crashchat-val")).sign_s
    assert best == 2.8
    reached = [np.mean([by_rules(s, t, c) for s, c in zip(sign, crash, strict=True)]) for t in (1.5, 2.0, 2.8, 3.5)]
    assert max(reached) == reached[2] == pytest.approx(0.2800, abs=5e-5)


def test_time_to_accident() -> None:
    sign, answer, crash = np.array([2.0, 2.0, 2.0]), np.array([1.8, 4.0, np.nan]), np.array([3.5, 3.5, 3.5])
    iou = pre_crash.reference_iou(sign, answer, crash)
    found = pre_crash.scores(sign, answer, crash, iou, Draws(np.ones((1, 3))))
    assert found["tta_true_s"].value == 1.5
    assert found["tta_s"].value == pytest.approx(1.7 / 3)
    assert found["tta_mae_s"].value == pytest.approx((0.2 + 1.5 + 1.5) / 3)
    assert found["miou"].value == pytest.approx(1 / 3)
