"""Whether a camera's picture looks the same as before, so that one that has frozen can be told.

Equal pixels would be too much to ask: when a camera's sensor hangs, its encoder goes on, and renews the same picture
with each keyframe. Measured with x264, x265 and JPEG, 144p to 1080p at 0.4 to 4 Mbit/s scaled to 320 x 192, such
pictures differ by up to 27 levels of 255 in whole blocks where bits are scarce, in single pixels by more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 32
PIXELS = 8


class Sameness:
    """Numbers pictures: the number stays while no picture differs visibly from the one that it was given for.

    Visibly is by more than 32 levels in at least 8 values.
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
