"""Pictures that look the same are told from those in which something has changed."""

from __future__ import annotations

import numpy as np

from edge_sdk.capture.sameness import Sameness

SCENE = np.random.default_rng(4).integers(40, 200, (192, 320), np.uint8)


def test_what_an_encoder_changes_is_no_change() -> None:
    """Measured: up to 27 levels in a block, 10 anywhere, and more in a single pixel."""
    noise = np.random.default_rng(5).integers(-10, 11, (6, *SCENE.shape))
    noise[::2, 32:48, 64:80] = 27
    sameness = Sameness()
    numbers = set()
    for offset in noise:
        picture = (SCENE.astype(int) + offset).astype(np.uint8)
        picture[0, :3] = 255
        numbers.add(sameness.look(SCENE))
        numbers.add(sameness.look(picture))
    assert len(numbers) == 1


def test_a_small_thing_that_moves_is_a_change_each_time() -> None:
    sameness = Sameness()
    numbers = []
    for column in range(0, 60, 3):
        picture = SCENE.copy()
        picture[100:104, column : column + 4] = 255
        numbers.append(sameness.look(picture))
    assert len(set(numbers)) == 20


def test_a_slow_change_adds_up() -> None:
    sameness = Sameness()
    numbers = [sameness.look(np.full((192, 320), level, np.uint8)) for level in range(100, 171)]
    assert len(set(numbers)) == 3  # 33 levels and 66 levels after the first


def test_a_picture_may_be_written_on_after_it_was_looked_at() -> None:
    sameness, picture = Sameness(), SCENE.copy()
    first = sameness.look(picture)
    picture[:] = 0
    assert sameness.look(SCENE) == first
