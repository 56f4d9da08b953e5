"""Pictures as the vision tower takes them: patches in its order, normalised, and which tokens are kept.

A patch is `patch` x `patch` pixels. A window of 2 x 2 patches becomes one token, and its patches are consecutive.
Order, normalisation and the compression rule: `image_processing_videollama3.py` and `videollama3_arch.py` of
VideoLLaMA3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.errors import ConfigError

# Patches along each side of the window that becomes one token.
MERGE = 2

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


def patchify(frames: Pixels, patch: int) -> Pixels:
    """Cut RGB `[frames, height, width, 3]` into `[frames, patches, 3 * patch * patch]`, by channel, row and column.

    Raises `ConfigError` for sides that are not multiples of a window.
    """
    count, height, width, channels = frames.shape
    window = MERGE * patch
    if height % window or width % window:
        raise ConfigError(f"expected a picture whose sides are multiples of {window} pixels, found {width}x{height}")
    split = frames.reshape(count, height // window, MERGE, patch, width // window, MERGE, patch, channels)
    ordered = split.transpose(0, 1, 4, 2, 5, 7, 3, 6)
    return np.ascontiguousarray(ordered).reshape(count, -1, channels * patch * patch)


def normalised(patches: Pixels, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Values:
    """Return (x / 255 - mean) / std by channel, float32, for `patches [frames, patches, values]` from `patchify`."""
    frames, count, values = patches.shape
    shares = patches.reshape(frames, count, len(mean), -1).astype(np.float32) / np.float32(255)
    centred = shares - np.array(mean, np.float32)[:, None]
    scaled: Values = centred / np.array(std, np.float32)[:, None]
    return scaled.reshape(frames, count, values)


def kept_tokens(patches: Values, compression: Compression | None) -> NDArray[np.bool_]:
    """Return which tokens go to the decoder, bool `[frames, tokens]`, for normalised `[frames, patches, values]`.

    The first frame keeps all its tokens; without compression, every frame does. This computes in float32 as
    transformers does. CrashChat's own code uses bfloat16 pixels, so a window at the threshold may differ.
    """
    frames, count, _ = patches.shape
    keep = np.ones((frames, count // MERGE**2), bool)
    if compression is None:
        return keep
    for index in range(1, frames):
        change = np.abs(patches[index] - patches[index - 1]).reshape(keep.shape[1], -1).mean(1) * np.float32(255)
        keep[index] = change > compression.threshold
        if keep[index].sum() < compression.min_tokens:
            keep[index, : compression.min_tokens] = True
    return keep
