"""Patches: what can be said of them without the reference; `tests/export/test_patch_parity.py` has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.patches import kept_tokens, normalised, patchify

RULE = Compression()


def test_a_windows_patches_follow_one_another_by_row() -> None:
    picture = np.zeros((1, 28, 56, 3), np.uint8)
    picture[0, 14:, 28:42, 1] = 9
    patches = patchify(picture, 14)
    assert patches.shape == (1, 8, 588)
    marked = np.argwhere(patches)
    assert set(marked[:, 1]) == {4 + 2}
    assert set(marked[:, 2]) == set(range(196, 392))


@pytest.mark.parametrize("sides", [(28, 42), (14, 28), (30, 56)])
def test_a_picture_that_is_no_whole_number_of_windows_is_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"28 pixels, found {sides[1]}x{sides[0]}"):
        patchify(np.zeros((1, *sides, 3), np.uint8), 14)


def test_channels_have_constants_of_their_own() -> None:
    patches = np.full((1, 4, 588), 255, np.uint8)
    found = normalised(patches, (0.0, 0.5, 0.25), (1.0, 0.5, 0.25))
    assert found.dtype == np.float32
    assert [found[0, 0, index] for index in (0, 195, 196, 391, 392, 587)] == [1, 1, 1, 1, 3, 3]


def test_compression_compares_with_the_frame_before() -> None:
    frames = np.zeros((4, 8, 588), np.float32)
    frames[1, 4:] = 1.0
    frames[2, 4:] = 1.0
    frames[3, 4:] = 1.0
    frames[3, 0] = 0.1 * 4 / 255 * 1.01
    kept = kept_tokens(frames, RULE)
    assert kept.tolist() == [[True, True], [False, True], [True, False], [True, False]]
    assert kept_tokens(frames, None).all()


def test_a_change_of_the_threshold_itself_is_dropped_and_the_least_number_is_kept() -> None:
    frames = np.zeros((2, 12, 588), np.float32)
    rule = Compression(threshold=255.0, min_tokens=2)
    frames[1] = 1.0
    assert kept_tokens(frames, rule).tolist() == [[True] * 3, [True, True, False]]
    frames[1, 8:] = 1.01
    assert kept_tokens(frames, rule).tolist() == [[True] * 3, [True, True, True]]
    frames[1, 4:8] = 1.01
    assert kept_tokens(frames, rule).tolist() == [[True] * 3, [False, True, True]]
