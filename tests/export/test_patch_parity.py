"""Patches, normalisation and compression against transformers' video processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers_oracle import transformers as transformers

from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.reasoning.patches import kept_tokens, normalised, patchify


@pytest.fixture(scope="module")
def processor() -> Any:
    pytest.importorskip("torchvision")
    from transformers.models.video_llama_3.video_processing_video_llama_3 import VideoLlama3VideoProcessor

    return VideoLlama3VideoProcessor(do_resize=False, do_sample_frames=False, use_token_compression=True)


@pytest.mark.parametrize(("height", "width"), [(56, 84), (84, 28), (196, 364)])
def test_patches_and_kept_tokens_are_those_of_transformers(processor: Any, height: int, width: int) -> None:
    random = np.random.default_rng(height)
    frames = random.integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    frames[1, :, : width // 2] = frames[0, :, : width // 2]
    frames[2] = frames[1]
    frames[3] = np.clip(frames[2].astype(int) + (random.random(frames[2].shape) < 0.05), 0, 255)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = processor(videos=[video], return_tensors="pt", merge_size=2)
    expected = found["pixel_values_videos"].numpy().reshape(5, -1, 588)
    patches = normalised(patchify(frames, 14), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    np.testing.assert_allclose(patches, expected, atol=1e-6)
    kept = kept_tokens(patches, Compression())
    np.testing.assert_array_equal(kept.ravel(), found["video_compression_mask"].numpy())
    assert kept[0].all()
    assert kept[2].sum() == 1
    assert 0 < kept[1].sum() <= kept[0].sum()
