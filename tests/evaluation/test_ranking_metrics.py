from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import metrics


def draw(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truths, scores with many ties when `levels` is small, and whole-number weights."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    truth[:2] = True, False
    score = np.round(rng.normal(size=n) + truth, 6) if levels == 0 else rng.integers(0, levels, n) / levels
    return truth, score.astype(float), rng.integers(0, 4, n).astype(float) + np.isin(np.arange(n), (0, 1))


@pytest.mark.parametrize("levels", [0, 2, 5, 40])
@pytest.mark.parametrize("seed", range(6))
def test_ranking_metrics_equal_scikit_learn(seed: int, levels: int) -> None:
    truth, score, weight = draw(seed, 200, levels)
    ranking = metrics.Ranking(truth, score)
    assert metrics.average_precision(truth, score) == pytest.approx(average_precision_score(truth, score), abs=1e-12)
    assert metrics.roc_auc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    weighted_ap = average_precision_score(truth, score, sample_weight=weight)
    assert ranking.average_precision(weight) == pytest.approx(weighted_ap, abs=1e-12)
    assert ranking.roc_auc(weight) == pytest.approx(roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)


@pytest.mark.parametrize("levels", [0, 3, 12])
def test_f1_and_best_threshold_equal_scikit_learn(levels: int) -> None:
    truth, score, _ = draw(7, 150, levels)
    best = metrics.best_f1(truth, score)
    precision, recall, thresholds = precision_recall_curve(truth, score)
    curve = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert best.f1 == pytest.approx(curve.max(), abs=1e-9)
    assert best.value in thresholds
    assert best.f1 == pytest.approx(f1_score(truth, score >= best.value), abs=1e-12)


def test_constant_scores_are_at_chance() -> None:
    truth = np.array([True] * 30 + [False] * 70)
    assert metrics.roc_auc(truth, np.zeros(100)) == 0.5
    assert metrics.average_precision(truth, np.zeros(100)) == pytest.approx(0.3)


def test_one_class_is_undefined_not_zero() -> None:
    assert math.isnan(metrics.roc_auc([True, True], [0.1, 0.2]))
    assert math.isnan(metrics.average_precision([False, False], [0.1, 0.2]))
    assert math.isnan(metrics.best_f1([False], [0.5]).f1)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="equal length"):
        metrics.roc_auc([True, False], [0.1])
    with pytest.raises(ConfigError, match="1 of 2 scores are NaN"):
        metrics.roc_auc([True, False], [0.1, float("nan")])
