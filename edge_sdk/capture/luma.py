"""Expand luma of studio range to full range, where 0 is black and 255 is white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# ITU-R BT.601 2.5.3: Y' = 16 is black and 235 is white.
_FULL_RANGE = np.clip(np.round((np.arange(256) - 16.0) * (255.0 / 219.0)), 0, 255).astype(np.uint8)


def widened(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of `luma`, uint8 of any shape, with 16..235 spread to 0..255; values outside are clipped."""
    return _FULL_RANGE.take(luma)
