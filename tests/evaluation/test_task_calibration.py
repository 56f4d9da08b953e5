"""Brier score and calibration error against scikit-learn and against probabilities that are right by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.tasks.calibration import calibration
from edge_sdk.evaluation.tasks.draws import Draws

RNG = np.random.default_rng(7)


def plain(n: int) -> Draws:
    return Draws(np.ones((1, n)))


def test_against_scikit_learn() -> None:
    said = RNG.permutation(np.linspace(0.001, 0.999, 400)) ** 2
    crash = RNG.random(400) < said**0.5
    found = calibration(crash, said, plain(400), bins=10)
    assert found.brier.value == pytest.approx(brier_score_loss(crash, said))
    happened, promised = calibration_curve(crash, said, n_bins=10, strategy="quantile")
    assert [each.clips for each in found.bins] == [40] * 10
    np.testing.assert_allclose([each.happened for each in found.bins], happened)
    np.testing.assert_allclose([each.said for each in found.bins], promised)
    assert found.ece.value == pytest.approx(np.abs(happened - promised).mean())


def test_equal_probabilities_share_a_bin_whatever_their_order() -> None:
    said = np.array([0.2] * 50 + [0.9] * 50)
    crash = np.array([True] * 10 + [False] * 40 + [True] * 45 + [False] * 5)
    order = RNG.permutation(100)
    for chosen in (np.arange(100), order):
        found = calibration(crash[chosen], said[chosen], plain(100))
        assert [(each.clips, each.happened) for each in found.bins] == [(50, 0.2), (50, 0.9)]
        assert found.ece.value == pytest.approx(0.0, abs=1e-12)


def test_a_level_goes_where_its_middle_lies() -> None:
    said = [0.1] * 30 + [0.5] * 45 + [0.9] * 25
    found = calibration([False] * 60 + [True] * 40, said, plain(100), bins=2)
    assert [each.clips for each in found.bins] == [30, 70]


def test_overconfidence_is_the_distance() -> None:
    found = calibration([True] * 60 + [False] * 40, [0.9] * 100, plain(100))
    assert found.ece.value == pytest.approx(0.3)
    assert found.brier.value == pytest.approx(0.6 * 0.01 + 0.4 * 0.81)
    assert found.brier_constant == pytest.approx(0.24)


def test_the_interval_holds_the_value_and_a_resample_is_that_of_repeated_clips() -> None:
    said = RNG.random(80)
    crash = RNG.random(80) < said
    draws = Draws.over([str(i) for i in range(80)], rounds=300, seed=1)
    found = calibration(crash, said, draws)
    assert found.brier.lo is not None
    assert found.brier.lo < found.brier.value < found.brier.hi
    repeated = np.repeat(np.arange(80), draws.weights[1].astype(int))
    assert (found.ece.lo, found.ece.hi) == (None, None)
    alone = calibration(crash, said, Draws(draws.weights[1:2]))
    assert alone.ece.value == pytest.approx(calibration(crash[repeated], said[repeated], plain(80)).ece.value)


@pytest.mark.parametrize("clips", [60, 300, 2000])
def test_probabilities_that_are_right_show_the_error_that_they_are_said_to_show(clips: int) -> None:
    """Scikit-learn's own bins of truths that are drawn elsewhere."""
    said = np.random.default_rng(clips).beta(0.6, 0.6, clips)
    found = calibration(RNG.random(clips) < said, said, plain(clips))
    errors = []
    for _ in range(100):
        happened, promised = calibration_curve(RNG.random(clips) < said, said, n_bins=10, strategy="quantile")
        errors.append(np.abs(happened - promised).mean())
    assert found.ece_if_right == pytest.approx(np.mean(errors), rel=0.12)


@pytest.mark.parametrize("said", [[0.5, 1.2], [0.5], [-0.1, 0.5], [float("nan"), 0.5]])
def test_what_is_no_probability_is_refused(said: list[float]) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        calibration([True, False], said, plain(2))
