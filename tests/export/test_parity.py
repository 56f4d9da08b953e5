"""From pixels to tokens, the graphs say what transformers says: in every dialect, by every kind of decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoint_makers import tiny_model
from parity_cases import FRAMES, GRID, TOKENS, make_clip, parity_rows
from transformers_oracle import transformers

PATCHES = ("pixel_values_videos", "video_grid_thw", "video_merge_sizes")
WIDE = [pytest.param(name, marks=pytest.mark.slow) for name in ("2b", "7b")]


@pytest.mark.parametrize("name", ["tiny", "tied", *WIDE])
def test_logits_within_a_ten_thousandth_and_the_same_tokens(tmp_path: Path, name: str) -> None:
    rows = list(parity_rows(name, tmp_path))
    assert len(rows) == 24
    for row in rows:
        assert row.max_error <= 1e-4, row
        assert row.same_tokens == TOKENS, row
        # as initialised, a wide model hardly prefers one token to another; its logits are small all the same
        assert row.max_logit > 100 * row.max_error, row


def test_tokens_are_dropped_as_transformers_drops_them() -> None:
    pytest.importorskip("torchvision")
    config = tiny_model().config
    whole, fewer = (make_clip(config, compression) for compression in (False, True))
    assert whole.kept.all()
    given = {name: value for name, value in fewer.inputs.items() if name in PATCHES}
    theirs = transformers.VideoLlama3VideoProcessor()._get_compression_mask(**given)
    np.testing.assert_array_equal(fewer.kept, theirs.numpy().reshape(FRAMES, GRID.tokens))
    np.testing.assert_array_equal(fewer.inputs["video_compression_mask"], theirs)
