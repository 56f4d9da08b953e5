from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.benchmarks.live.reconnects import slope_of


def test_the_slope_is_that_of_the_second_half() -> None:
    warm_up = list(np.linspace(10_000, 60_000, 500))
    assert slope_of([*warm_up, *(60_000 + 0.25 * number for number in range(500))]) == pytest.approx(0.25)


def test_steps_of_an_allocator_that_come_back_are_no_slope() -> None:
    chance = np.random.default_rng(0)
    values = 60_000 + 512 * chance.integers(0, 4, 1000)
    assert abs(slope_of(list(values))) < 0.5


def test_a_leak_shows_through_the_noise() -> None:
    chance = np.random.default_rng(0)
    values = 60_000 + 3.0 * np.arange(1000) + chance.normal(0, 300, 1000)
    assert slope_of(list(values)) == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0]])
def test_too_few_values_have_no_slope(values: list[float]) -> None:
    assert slope_of(values) == 0.0
