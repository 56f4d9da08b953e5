from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edge_sdk.benchmarks.live import stamp

SECOND = 10**9
TIMES_NS = [0, 1, 123_456_789_012_345, 2**32 * stamp.TICK_NS - 1, 40 * 86400 * SECOND + 17]


def drawn(now_ns: int, size: tuple[int, int] = (1280, 720)) -> np.ndarray:
    luma = np.full((size[1], size[0]), 90, np.uint8)
    stamp.draw(luma, now_ns)
    return luma


def letterboxed(luma: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scaled by another library into the middle of a black picture."""
    picture = Image.fromarray(luma)
    scale = min(width / picture.width, height / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    out = Image.new("L", (width, height))
    out.paste(picture.resize(size, Image.Resampling.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(out)


@pytest.mark.parametrize("now_ns", TIMES_NS)
@pytest.mark.parametrize(
    ("size", "into"), [((1280, 720), (320, 192)), ((640, 480), (320, 192)), ((320, 192), (160, 192))]
)
def test_a_stamp_survives_scaling_and_compression(now_ns: int, size: tuple[int, int], into: tuple[int, int]) -> None:
    small = letterboxed(drawn(now_ns, size), *into)
    jpeg = io.BytesIO()
    Image.fromarray(small).save(jpeg, "JPEG", quality=20)
    for picture in (small, np.asarray(Image.open(jpeg))):
        ticks = stamp.read(picture, size[0] / size[1])
        assert ticks is not None
        assert stamp.age_ms(ticks, now_ns + 250_000_000) == pytest.approx(250, abs=0.1)


def test_an_age_counts_over_the_wrap() -> None:
    ticks = stamp.read(drawn(2**32 * stamp.TICK_NS - 1), 16 / 9)
    assert ticks == 2**32 - 1
    assert stamp.age_ms(ticks, (2**32 + 49) * stamp.TICK_NS) == pytest.approx(5.0)


@pytest.mark.parametrize("level", [0, 40, 125, 210, 255])
def test_a_plain_picture_shows_no_time(level: int) -> None:
    assert stamp.read(np.full((192, 320), level, np.uint8)) is None


def test_a_picture_of_two_times_shows_none() -> None:
    one, two = (letterboxed(drawn(time_ns), 320, 192) for time_ns in (SECOND * 1000, SECOND * 1003))
    torn = np.vstack([one[:40], two[40:]])
    faded = ((one.astype(np.uint16) + two) // 2).astype(np.uint8)
    assert stamp.read(torn) is None
    assert stamp.read(faded) is None


def test_no_single_wrong_block_is_read_as_a_time() -> None:
    luma = drawn(SECOND * 4711)
    height, width = 360 // stamp.ROWS, 1280 // stamp.COLUMNS
    for row in range(stamp.ROWS):
        for column in range(stamp.COLUMNS):
            wrong = luma.copy()
            block = wrong[row * height : (row + 1) * height, column * width : (column + 1) * width]
            block[:] = stamp.DARK + stamp.BRIGHT - block
            assert stamp.read(wrong) is None


def test_noise_is_hardly_ever_read_as_a_time() -> None:
    chance = np.random.default_rng(0)
    blocks = chance.choice([stamp.DARK, stamp.BRIGHT], (2000, stamp.ROWS, stamp.COLUMNS)).astype(np.uint8)
    pictures = blocks.repeat(24, axis=1).repeat(32, axis=2)
    found = sum(stamp.read(np.vstack([picture, picture])) is not None for picture in pictures)
    assert found < 2000 * 3 / 256
