"""Crash intervals against plain loops over CrashChat's own validation labels.

What the reference page derives from the test labels (best constant .244, a perfect answer .9966, shifted intervals
.872/.777/.562/.336) is derived here from the 1,139 validation labels, of which 6 have no length.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.boundaries import TOLERANCE, interval_iou, overlap
from edge_sdk.evaluation.tasks import intervals, read_annotations
from edge_sdk.evaluation.tasks.blind import choose
from edge_sdk.evaluation.tasks.draws import Draws

Span = tuple[float, float]


@pytest.fixture(scope="module")
def labels(shared_data: Path) -> list[Span]:
    truths = read_annotations(shared_data / "crashchat-val").of("crash_interval")
    numbers = [re.findall(r"\d+\.\d", truth.answer) for truth in truths.values()]
    return [(float(start), float(end)) for start, end in numbers]


def plain_iou(a: Span, b: Span) -> float:
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return inner / hull if hull else 0.0


def mean_iou(truth: list[Span], answers: list[Span]) -> float:
    return float(intervals.reference_iou(truth, answers).mean())


def test_iou_by_hand() -> None:
    truth = [(2.0, 4.0)] * 6 + [(3.0, 3.0)]
    answers = [(2.0, 4.0), (3.0, 5.0), (4.0, 2.0), (4.0, 6.0), (9.0, 10.0), (float("nan"), float("nan")), (3.0, 3.0)]
    assert intervals.reference_iou(truth, answers).tolist() == [1.0, 1 / 3, 1.0, 0.0, 0.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match="1 and 2"):
        intervals.reference_iou([(1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0)])


def test_overlap_over_hull_is_the_usual_iou(labels: list[Span]) -> None:
    answers = np.random.default_rng(0).permutation(np.array(labels))
    found = intervals.reference_iou(labels, answers)
    np.testing.assert_allclose(found, interval_iou(labels, answers), atol=1e-12)
    assert 0.1 < found.mean() < 0.3


def test_levels_are_shares_that_reach_them() -> None:
    draws = Draws(np.ones((1, 4)))
    found = {name: each.value for name, each in intervals.scores([0.3, 0.5, 0.69, 0.7], draws).items()}
    assert found == {"miou": pytest.approx(0.5475), "iou_30": 1.0, "iou_50": 0.75, "iou_70": 0.25}


def test_an_overlap_of_exactly_a_level_reaches_it() -> None:
    """Against whole numbers of tenths; without a tolerance dozens of these fall short by a hair."""
    pairs = [
        ((start, start + length), (start + begin, start + length + end))
        for start, length, begin, end in product((0, 7, 21, 49, 98), range(2, 40), range(11), range(-10, 11))
        if length + end > begin
    ]
    exact = []
    for (a, b), (c, d) in pairs:
        exact.append(Fraction(max(0, min(b, d) - max(a, c)), max(b, d) - min(a, c)))
    truth, answers = np.array(pairs).transpose(1, 0, 2) / 10
    draws = Draws(np.ones((1, len(pairs))))
    found = intervals.scores(intervals.reference_iou(truth, answers), draws, tolerance=TOLERANCE)
    plain = intervals.scores(intervals.reference_iou(truth, answers), draws)
    recall = overlap(truth, answers).recall
    for tenths in (3, 5, 7):
        reached = sum(iou >= Fraction(tenths, 10) for iou in exact)
        assert found[f"iou_{tenths}0"].value == pytest.approx(reached / len(pairs))
        assert recall[f"0.{tenths}"].hits == reached
        assert plain[f"iou_{tenths}0"].value < reached / len(pairs)


def test_a_start_late_by_exactly_a_second_is_within_one() -> None:
    tenths = np.arange(200)
    for late, share in ((10, 1.0), (11, 0.0)):
        found = intervals.start_scores(tenths / 10, (tenths + late) / 10, Draws(np.ones((1, 200))))
        assert found["start_1s"].value == share


def test_start_error_is_of_the_answered_and_the_share_of_all() -> None:
    found = intervals.start_scores([1.0, 2.0, 3.0, 4.0], [1.5, 4.0, np.nan, 4.0], Draws(np.ones((1, 4))))
    assert found["start_mae_s"].value == pytest.approx(2.5 / 3)
    assert found["start_1s"].value == 0.5


def test_a_perfect_answer_misses_the_labels_of_no_length(labels: list[Span]) -> None:
    assert sum(start == end for start, end in labels) == 6
    assert mean_iou(labels, labels) == pytest.approx(1133 / 1139)


@pytest.mark.parametrize(("shift_s", "expected"), [(0.1, 0.8769), (0.2, 0.7834), (0.5, 0.5704), (1.0, 0.3403)])
def test_perfect_intervals_shifted(shift_s: float, expected: float, labels: list[Span]) -> None:
    shifted = [(start + shift_s, end + shift_s) for start, end in labels]
    found = mean_iou(labels, shifted)
    assert found == pytest.approx(expected, abs=5e-5)
    assert found == pytest.approx(np.mean([plain_iou(a, b) for a, b in zip(labels, shifted, strict=True)]))


def test_the_best_constant_interval_is_the_best_of_a_coarse_search(shared_data: Path, labels: list[Span]) -> None:
    best = choose(read_annotations(shared_data / "crashchat-val")).interval_s
    assert best == pytest.approx((3.4, 7.5))
    reached = mean_iou(labels, [best] * len(labels))
    assert reached == pytest.approx(0.2555, abs=5e-5)
    # The test split's best, (3, 7), is worth 0.244 there and as much here, to within a hundredth.
    assert mean_iou(labels, [(3.0, 7.0)] * len(labels)) == pytest.approx(0.2531, abs=5e-5)
    coarse = [(start, end) for start in np.arange(0.0, 10.0, 0.7) for end in np.arange(start + 0.7, 16.0, 0.7)]
    assert all(np.mean([plain_iou(label, span) for label in labels]) <= reached for span in coarse)
