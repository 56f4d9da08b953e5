"""Vision input beside what it replaces, in one run: Pillow's resize with numpy, and transformers' video processor.

With `--benchmark-only` the report groups the ways by what they do. The last tests measure ratios: both sides in turn,
round by round, in the processor time of one thread, so that other work beside them costs both about alike; the median
round counts. What is asserted is far below what AVX2 gives, for processors without it (SSE2 alone: 2 times Pillow).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from statistics import median

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.reasoning.grid import SMALLEST_WINDOWS, TRAINING_BUDGET, WINDOW, FrameSize, frame_size
from edge_sdk.reasoning.patches import normalised, patchify
from edge_sdk.reasoning.vision_input import VisionInput

Pixels = NDArray[np.uint8]
Timed = Callable[[Callable[[], object]], None]
Call = Callable[[], object]

HALVES = (0.5, 0.5, 0.5)
SOURCES = {"720p": (1280, 720), "1080p": (1920, 1080), "360p": (640, 360)}
FRAMES = 96
TIMES_PILLOW, TIMES_TRANSFORMERS = 1.5, 1.0


def picture(width: int, height: int) -> Pixels:
    """Gradients with some noise: the time of no side depends on what is seen."""
    down, across = np.mgrid[:height, :width]
    smooth = np.stack([across * 255 / width, down * 255 / height, (across + down) % 256], -1)
    return np.clip(smooth + np.random.default_rng(0).normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def with_pillow(pixels: Pixels, size: FrameSize) -> Call:
    def run() -> object:
        resized = Image.fromarray(pixels).resize((size.width, size.height), Image.Resampling.BICUBIC)
        return normalised(patchify(np.asarray(resized)[None], 14), HALVES, HALVES)[0]

    return run


def with_core(pixels: Pixels, size: FrameSize) -> Call:
    vision = VisionInput(size)
    return lambda: vision.normalised(vision.from_rgb(pixels))


@pytest.mark.benchmark(group="rgb-to-patches")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", [with_pillow, with_core], ids=["pillow and numpy", "core"])
def test_rgb_to_patches(timed: Timed, way: Callable[[Pixels, FrameSize], Call], source: str) -> None:
    pixels, size = picture(*SOURCES[source]), frame_size(*SOURCES[source], FRAMES)
    timed(way(pixels, size))


@pytest.mark.benchmark(group="nv12-to-patches")
def test_nv12_to_patches(timed: Timed) -> None:
    pixels = picture(1280, 720)
    vision = VisionInput(frame_size(1280, 720, FRAMES))
    luma, chroma = np.ascontiguousarray(pixels[..., 0]), np.ascontiguousarray(pixels[::2, ::2, 1:])
    timed(lambda: vision.normalised(vision.from_nv12(luma, chroma)))


@pytest.mark.benchmark(group="kept-tokens")
def test_tokens_of_one_frame(timed: Timed) -> None:
    vision = VisionInput(frame_size(1280, 720, FRAMES))
    patches = vision.from_rgb(picture(1280, 720))
    keeper = vision.keeper(Compression())
    timed(lambda: keeper.push(patches))


def times(slow: Call, fast: Call, rounds: int, calls: int) -> float:
    """How many times the processor time of `fast` the one of `slow` is: the median of rounds that alternate."""
    return median(_cost_s(slow, calls) / _cost_s(fast, calls) for _ in range(rounds))


def _cost_s(call: Call, calls: int) -> float:
    begin = time.thread_time()
    for _ in range(calls):
        call()
    return time.thread_time() - begin


def test_core_against_pillow() -> None:
    pixels, size = picture(1280, 720), frame_size(1280, 720, FRAMES)
    slow, fast = with_pillow(pixels, size), with_core(pixels, size)
    np.testing.assert_array_equal(np.asarray(slow()), np.asarray(fast()))
    found = times(slow, fast, rounds=15, calls=4)
    print(f"core against Pillow and numpy, a 720p picture: {found:.2f} times")
    assert found >= TIMES_PILLOW


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    torch = import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("transformers") or not find_spec("torchvision"), reason="transformers or torchvision is not here"
)
@pytest.mark.usefixtures("one_torch_thread")
def test_core_against_transformers() -> None:
    """A whole clip, as it is given to transformers, kept tokens and all.

    Of eight frames at a time transformers takes half as long: its buffers are then small enough to be used again.
    """
    torch = import_module("torch")
    import_module("transformers_oracle")
    module = import_module("transformers.models.video_llama_3.video_processing_video_llama_3")
    clip, size = np.stack([picture(1280, 720)] * FRAMES), frame_size(1280, 720, FRAMES)
    budget = {"shortest_edge": SMALLEST_WINDOWS * WINDOW**2, "longest_edge": TRAINING_BUDGET * WINDOW**2}
    processor = module.VideoLlama3VideoProcessor(do_sample_frames=False, use_token_compression=True, size=budget)
    video = torch.from_numpy(clip).permute(0, 3, 1, 2)
    vision = VisionInput(size)
    keeper = vision.keeper(Compression())

    def ours() -> None:
        for frame in clip:
            patches = vision.from_rgb(frame)
            keeper.push(patches)
            vision.normalised(patches)

    found = times(lambda: processor(videos=[video], return_tensors="pt", merge_size=2), ours, rounds=5, calls=1)
    print(f"core with kept tokens against transformers, a 720p clip: {found:.2f} times")
    assert found >= TIMES_TRANSFORMERS
