"""The time at which a picture was drawn, written into its pixels, which survive encoding and scaling, unlike headers.

A grid of big blocks in the upper half, one bit each, holds 32 bits of time and a CRC-8 of them. A smeared picture, or a
mixture of two pictures, reads as None and is counted as unreadable, never as an age.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

ROWS, COLUMNS = 4, 10
TIME_BITS = 32  # of 0.1 ms: the count begins again after 4.97 days
TICK_NS = 100_000
DARK, BRIGHT = 40, 210  # within the studio range, so that neither is clipped
# A block whose mean is within MARGIN of MIDDLE is not a readable bit.
MIDDLE, MARGIN = 125, 30
_BITS = ROWS * COLUMNS
_WRAP = 1 << TIME_BITS


def draw(luma: Luma, now_ns: int) -> None:
    """Write `now_ns` of `time.monotonic_ns()` into the upper half of `luma`, uint8 `[height, width]`, in place."""
    height, width = luma.shape[0] // 2, luma.shape[1]
    word = _word(now_ns // TICK_NS % _WRAP)
    bits = np.array([word >> bit & 1 for bit in range(_BITS)], bool).reshape(ROWS, COLUMNS)
    blocks = np.where(bits, BRIGHT, DARK).astype(np.uint8)
    luma[:height] = blocks[:, np.arange(width) * COLUMNS // width][np.arange(height) * ROWS // height]


def read(luma: Luma, aspect: float = 16 / 9) -> int | None:
    """The time in ticks that a letterboxed picture shows, uint8 `[height, width]`; None where it shows none.

    `aspect` is width over height of the picture before it was scaled.
    """
    content = _content(luma, aspect)
    height, width = content.shape[0] / 2 / ROWS, content.shape[1] / COLUMNS
    word = 0
    for number in range(_BITS):
        row, column = divmod(number, COLUMNS)
        top, left = (row + 0.25) * height, (column + 0.25) * width
        block = content[round(top) : round(top + height / 2) + 1, round(left) : round(left + width / 2) + 1]
        level = float(block.mean()) - MIDDLE
        if abs(level) < MARGIN:
            return None
        word |= (level > 0) << number
    ticks = word % _WRAP
    return ticks if _word(ticks) == word else None


def age_ms(ticks: int, now_ns: int) -> float:
    """Milliseconds from the time that `read` gave to `now_ns` of `time.monotonic_ns()`, to 0.1 ms."""
    return (now_ns // TICK_NS - ticks) % _WRAP * TICK_NS / 1e6


def _content(luma: Luma, aspect: float) -> Luma:
    """The picture without the black borders of its letterbox."""
    height, width = luma.shape[:2]
    if width > height * aspect:
        inner, outer = round(height * aspect), width
        return luma[:, (outer - inner) // 2 : (outer + inner) // 2]
    inner, outer = round(width / aspect), height
    return luma[(outer - inner) // 2 : (outer + inner) // 2]


def _word(ticks: int) -> int:
    """Time and check bits: CRC-8 with polynomial x^8 + x^2 + x + 1, starting at 0xFF so that black is no valid time."""
    check = 0xFF
    for byte in ticks.to_bytes(TIME_BITS // 8, "big"):
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 0x07) & 0xFF if check & 0x80 else check << 1
    return check << TIME_BITS | ticks
