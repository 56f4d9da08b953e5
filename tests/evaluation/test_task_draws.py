"""Bootstrap draws against the bootstrap of the clip metrics, which computes one score at a time."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.evaluation.resample import bootstrap
from edge_sdk.evaluation.tasks.draws import Draws, sure

RNG = np.random.default_rng(3)


def test_intervals_are_those_of_the_bootstrap_by_group() -> None:
    groups = [f"g{i // 3}" for i in range(60)]
    values = RNG.random(60)
    drawn = sure(Draws.over(groups, rounds=200, seed=5).mean(values))
    expected = bootstrap(groups, lambda weight: float(weight @ values / weight.sum()), rounds=200, seed=5)
    assert drawn.value == pytest.approx(values.mean())
    assert (drawn.lo, drawn.hi) == pytest.approx(expected)


def test_some_clips_keep_their_draws() -> None:
    draws = Draws.over([str(i) for i in range(10)], rounds=50, seed=0)
    chosen = [1, 4, 7]
    np.testing.assert_array_equal(draws.take(chosen).weights, draws.weights[:, chosen])
    mask = np.isin(np.arange(10), chosen)
    np.testing.assert_array_equal(draws.take(mask).weights, draws.weights[:, chosen])


def test_one_group_and_no_round_give_no_interval() -> None:
    for draws in (Draws.over(["a"] * 4, rounds=100, seed=0), Draws.over(["a", "b", "c", "d"], rounds=0, seed=0)):
        found = sure(draws.mean([0.0, 1.0, 1.0, 0.0]))
        assert (found.value, found.lo, found.hi) == (0.5, None, None)


def test_a_score_that_most_resamples_lack_has_no_interval() -> None:
    values = np.concatenate([[0.4], np.full(60, np.nan), np.full(40, 0.5)])
    assert sure(values).lo is None
    assert sure(np.concatenate([values, np.full(21, 0.5)])).lo == 0.5
    assert sure(np.array([np.nan, 0.1, 0.2])).value is None
