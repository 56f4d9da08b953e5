"""Augmentation: what comes out is a window of the asked size, the same for the same generator, and looks the part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_sdk.export.distil.augment import augment, resize


@pytest.fixture
def window() -> NDArray[np.uint8]:
    """A bright square that moves one pixel a frame over a grey ramp."""
    frames = np.tile(np.linspace(40, 120, 128, dtype=np.uint8), (16, 64, 1)).copy()
    for t, frame in enumerate(frames):
        frame[20:36, 30 + t : 46 + t] = 230
    return frames


def test_the_size_asked_for_comes_out_and_the_source_is_untouched(window: NDArray[np.uint8]) -> None:
    before = window.copy()
    for seed in range(20):
        changed, _ = augment(window, np.random.default_rng(seed), 32, 64)
        assert (changed.shape, changed.dtype) == ((16, 32, 64), np.uint8)
    np.testing.assert_array_equal(window, before)


def test_the_generator_decides_everything(window: NDArray[np.uint8]) -> None:
    made = [augment(window, np.random.default_rng(seed), 64, 128)[0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_a_still_scene_stays_still_but_for_shake_and_noise(window: NDArray[np.uint8]) -> None:
    still = np.repeat(window[:1], 16, 0)
    moved = [np.ptp(augment(still, np.random.default_rng(seed), 64, 128)[0], axis=0).max() for seed in range(40)]
    assert 0.3 < np.mean([reach == 0 for reach in moved]) < 0.7


def test_a_map_moves_with_its_picture(window: NDArray[np.uint8]) -> None:
    marked = torch.from_numpy(window == 230).float()
    inside, outside = [], []
    for seed in range(40):
        changed, framing = augment(window, np.random.default_rng(seed), 64, 128)
        moved = framing.move(marked).numpy()
        if (moved > 0.9).any():
            inside.append(float(changed[moved > 0.9].mean()))
            outside.append(float(changed[moved < 0.1].mean()))
    assert len(inside) > 30
    assert np.mean(np.array(inside) > np.array(outside) + 30) > 0.9


def test_a_map_says_nothing_of_what_black_bars_cover(window: NDArray[np.uint8]) -> None:
    covered = 0
    for seed in range(80):
        changed, framing = augment(np.full_like(window, 200), np.random.default_rng(seed), 64, 128)
        moved = framing.move(torch.ones(16, 32, 64)).numpy()
        if framing.bars.share:
            covered += 1
            for seen in (changed, moved):
                assert not seen.take([0, -1], framing.bars.axis).any()
        assert moved.any()
    assert covered > 4


def test_resize_is_the_mean_over_each_area(window: NDArray[np.uint8]) -> None:
    small = resize(window, 32, 64)
    expected = window.reshape(16, 32, 2, 64, 2).mean((2, 4))
    assert np.abs(small - expected).max() <= 0.5
    np.testing.assert_array_equal(resize(window, 64, 128), window)
