"""Vision input against transformers' video processor, which resizes with torchvision: the same but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers_oracle import transformers as transformers

from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.reasoning.grid import TRAINING_BUDGET, frame_size
from edge_sdk.reasoning.vision_input import VisionInput


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (720, 1280)])
def test_a_clip_is_what_transformers_makes_of_it(width: int, height: int) -> None:
    pytest.importorskip("torchvision")
    from transformers.models.video_llama_3.video_processing_video_llama_3 import VideoLlama3VideoProcessor

    random = np.random.default_rng(width)
    frames = random.integers(0, 256, (3, height, width, 3), np.uint8)
    frames[2] = frames[1]
    size = frame_size(width, height, 96)
    budget = {"shortest_edge": 16 * 784, "longest_edge": TRAINING_BUDGET * 784 // 96 * len(frames)}
    processor = VideoLlama3VideoProcessor(do_sample_frames=False, use_token_compression=True, size=budget)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = processor(videos=[video], return_tensors="pt", merge_size=2)
    expected = found["pixel_values_videos"].numpy().reshape(len(frames), -1, 588)
    vision = VisionInput(size)
    patches = np.stack([vision.from_rgb(frame) for frame in frames])
    levels = np.abs(vision.normalised(patches) - expected) * 127.5
    assert levels.mean() < 0.02
    assert levels.max() < 1.01
    keeper = vision.keeper(Compression())
    kept = np.concatenate([keeper.push(frame) for frame in patches])
    np.testing.assert_array_equal(kept, found["video_compression_mask"].numpy())
