"""Whether a camera's picture looks the same as before, to recognise a frozen camera.

A test for equal pixels would be too strict: when a camera's sensor hangs, its encoder goes on, and encodes the same
picture again at each keyframe. Measured with x264, x265 and JPEG, 144p to 1080p at 0.4 to 4 Mbit/s scaled to 320 x 192,
such pictures differ by up to 27 levels of 255 in whole blocks if bits are scarce, and by more in single pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 32
PIXELS = 8


class Sameness:
    """Numbers pictures: a new number is given only to a picture that differs visibly from the last one that got one.

    Visibly means by more than 32 levels in at least 8 values.
    """

    def __init__(self) -> None:
        self.number = 0
        self._reference: NDArray[np.uint8] | None = None

    def look(self, pixels: NDArray[np.uint8]) -> int:
        """The number of this picture, uint8 of the same shape each time."""
        reference = self._reference
        if reference is None or _differing(reference, pixels) >= PIXELS:
            self._reference = pixels.copy()
            self.number += 1
        return self.number


def _differing(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(np.maximum(one, other) - np.minimum(one, other) > LEVELS))
