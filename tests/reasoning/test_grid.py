"""Sizes of frames against those of the reference's own code, and against each other."""

from __future__ import annotations

import pytest

from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.reasoning.grid import FrameSize, find_profile, frame_size

# source, frames, budget -> size and tokens a frame: what the reference's resize gives.
REFERENCE = [
    ((1280, 720), 96, 16384, (476, 252), 153),
    ((640, 360), 96, 16384, (476, 252), 153),
    ((1584, 660), 96, 16384, (560, 224), 160),
    ((1280, 720), 96, 10240, (364, 196), 91),
    ((640, 360), 96, 10240, (364, 196), 91),
    ((1920, 1080), 96, 10240, (364, 196), 91),
    ((1280, 720), 50, 16384, (672, 364), 312),
    ((640, 360), 50, 16384, (644, 364), 299),
    ((1280, 720), 50, 10240, (532, 280), 190),
    ((640, 360), 50, 10240, (532, 280), 190),
    ((1280, 720), 32, 4096, (420, 224), 120),
    ((1280, 720), 96, 4096, (224, 112), 32),
    ((1280, 720), 96, 2048, (168, 84), 18),
]


@pytest.mark.parametrize(("source", "frames", "budget", "size", "tokens"), REFERENCE)
def test_sizes_are_those_of_the_reference(
    source: tuple[int, int], frames: int, budget: int, size: tuple[int, int], tokens: int
) -> None:
    found = frame_size(*source, frames, budget)
    assert (found.width, found.height) == size
    assert found.tokens == tokens


def test_a_small_picture_grows_to_sixteen_windows() -> None:
    found = frame_size(32, 18, 1)
    assert found.width * found.height >= 16 * 28 * 28
    assert (found.width % 28, found.height % 28) == (0, 0)


def test_profiles_keep_to_the_budget_of_training() -> None:
    assert find_profile("96f").size == FrameSize(width=364, height=196)
    assert all(find_profile(name).size.tokens * int(name[:-1]) <= 10240 for name in ("96f", "48f"))
    with pytest.raises(UnknownNameError, match="unknown profile '12f'; known: 24f, 48f, 96f"):
        find_profile("12f")


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 0x720, 96 and 10240"):
        frame_size(0, 720, 96)
