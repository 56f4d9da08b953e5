"""The size of a frame as the video LLM sees it: the reference's rule, and the sizes that bundles are exported for.

The size follows from the number of frames that share the token budget. On a device it is fixed when the bundle is
exported, so that a frame can be encoded on arrival, whatever comes after it.

Rule: `image_processing_videollama3.py` of VideoLLaMA3. Budget: CrashChat was trained with 10,240 tokens a clip; its
evaluation used 16,384.
"""

from __future__ import annotations

import math

from edge_sdk.errors import ConfigError, UnknownNameError
from edge_sdk.types import Value

TRAINING_BUDGET = 10_240
# Side in pixels of the window that becomes one token, and the minimum number of windows in a frame.
WINDOW, SMALLEST_WINDOWS = 28, 16


class FrameSize(Value, frozen=True, kw_only=True):
    """Width and height in pixels of a frame as the model sees it, both multiples of `WINDOW`."""

    width: int
    height: int

    @property
    def tokens(self) -> int:
        """The number of tokens of one frame."""
        return self.width * self.height // WINDOW**2


class Profile(Value, frozen=True, kw_only=True):
    """The shape of clips that a bundle is exported for: frames per clip, frames per second, and frame size."""

    frames: int
    rate_hz: float
    size: FrameSize


def frame_size(width: int, height: int, frames: int, budget: int = TRAINING_BUDGET) -> FrameSize:
    """Return the size to which a source of `width` x `height` pixels is resized if `frames` share `budget` tokens.

    The aspect ratio is kept only approximately. Raises `ConfigError` for a value below 1.
    """
    if min(width, height, frames, budget) < 1:
        raise ConfigError(
            f"expected a picture, frames and a budget of at least 1, found {width}x{height}, {frames} and {budget}"
        )
    # round() rounds halves to even, as the reference does.
    across, down = round(width / WINDOW) * WINDOW, round(height / WINDOW) * WINDOW
    most, least = budget * WINDOW**2 // frames, SMALLEST_WINDOWS * WINDOW**2
    if across * down > most:
        shrink = math.sqrt(width * height / most)
        across, down = (math.floor(side / shrink / WINDOW) * WINDOW for side in (width, height))
    if across * down < least:
        grow = math.sqrt(least / (width * height))
        across, down = (math.ceil(side * grow / WINDOW) * WINDOW for side in (width, height))
    return FrameSize(width=across, height=down)


PROFILES: dict[str, Profile] = {
    f"{frames}f": Profile(frames=frames, rate_hz=10.0, size=frame_size(1280, 720, frames)) for frames in (96, 48)
}
"""Profiles by name, for 16:9 sources: `96f` as in training, `48f` for clips half as long in finer detail."""
STANDARD = tuple(PROFILES)
"""Profiles that a VideoLLaMA3 bundle is exported with."""

PROFILES["24f"] = Profile(frames=24, rate_hz=4.0, size=FrameSize(width=140, height=84))
"""For a small model trained on it: six seconds, 15 tokens per frame."""


def find_profile(name: str) -> Profile:
    """Return the profile called `name`. Raises `UnknownNameError`."""
    if name not in PROFILES:
        raise UnknownNameError("profile", name, list(PROFILES))
    return PROFILES[name]
