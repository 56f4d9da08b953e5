"""Vision input against Pillow's resize, the published formulas of video's colours, and the plain numpy of `patches`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from guarded import guarded
from numpy.typing import NDArray
from PIL import Image

from edge_sdk import _native
from edge_sdk.bundle.manifest_language import Compression
from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.grid import FrameSize, frame_size
from edge_sdk.reasoning.patches import kept_tokens, normalised, patchify
from edge_sdk.reasoning.vision_input import Colour, TokenKeeper, VisionInput, usual_colour

Pixels = NDArray[np.uint8]
Make = Callable[..., VisionInput]

HALVES = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Sources of the field, and sizes that the video LLM sees.
SIZES = [
    ((1280, 720), (364, 196)),
    ((1920, 1080), (364, 196)),
    ((640, 360), (532, 280)),
    ((1584, 660), (560, 224)),
    ((1584, 660), (364, 140)),
    ((720, 1280), (196, 364)),
    ((364, 196), (364, 196)),
]


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def made(width: int, height: int, **settings: Any) -> VisionInput:
    return VisionInput(FrameSize(width=width, height=height), **settings)


def pillow_patches(pixels: Pixels, width: int, height: int) -> Pixels:
    """Across, then down, in two calls: in one, Pillow 13 takes the other order for some sizes."""
    across = Image.fromarray(pixels).resize((width, pixels.shape[0]), Image.Resampling.BICUBIC)
    both = across.resize((width, height), Image.Resampling.BICUBIC)
    return patchify(np.asarray(both)[None], 14)[0]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_the_bytes_are_those_of_one_resize_by_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = noise(*source)
    resized = Image.fromarray(pixels).resize(target, Image.Resampling.BICUBIC)
    expected = patchify(np.asarray(resized)[None], 14)[0]
    np.testing.assert_array_equal(made(*target).from_rgb(pixels), expected)


@pytest.mark.parametrize("seed", range(40))
def test_any_size_becomes_any_other_as_pillow_does_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(1, 400, 2))
    across, down = (int(side) * 28 for side in random.integers(1, 16, 2))
    # Black and white alone make the kernel's overshoot as large as it gets.
    pixels = noise(width, height, seed) if seed % 2 else (noise(width, height, seed) & 1) * np.uint8(255)
    np.testing.assert_array_equal(made(across, down).from_rgb(pixels), pillow_patches(pixels, across, down))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (300, 1), (2, 3), (7, 9), (15, 65), (4097, 13)])
def test_the_smallest_and_the_longest_pictures(width: int, height: int) -> None:
    pixels = noise(width, height)
    np.testing.assert_array_equal(made(56, 84).from_rgb(pixels), pillow_patches(pixels, 56, 84))


def test_another_size_of_picture_is_another_resize() -> None:
    vision = made(84, 56)
    for width, height in [(200, 100), (100, 200), (200, 100)]:
        pixels = noise(width, height)
        np.testing.assert_array_equal(vision.from_rgb(pixels), pillow_patches(pixels, 84, 56))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(threads: int) -> None:
    pixels = noise(640, 360)
    alone, together = made(364, 196), made(364, 196, threads=threads)
    for _ in range(5):
        np.testing.assert_array_equal(together.from_rgb(pixels), alone.from_rgb(pixels))


@pytest.mark.parametrize(
    "view",
    [
        lambda large: large[10:110, 20:180],
        lambda large: large[::2, :160],
        lambda large: large[::-1],
        lambda large: large[:, ::-1],
        lambda large: large[..., ::-1],
        lambda large: large.transpose(1, 0, 2),
        lambda large: large[5:6, :300],
    ],
    ids=["part", "every other row", "upside down", "mirrored", "BGR", "turned", "one row"],
)
def test_views_of_larger_pictures_are_read_as_they_look(view: Callable[[Pixels], Pixels]) -> None:
    large = noise(320, 240)
    large.setflags(write=False)
    seen = view(large)
    vision = made(56, 56)
    np.testing.assert_array_equal(vision.from_rgb(seen), vision.from_rgb(np.ascontiguousarray(seen)))


@pytest.mark.parametrize(("mean", "std"), [(HALVES, HALVES), (CLIP_MEAN, CLIP_STD)])
def test_values_are_those_of_the_plain_arithmetic_to_the_last_bit(mean: Any, std: Any) -> None:
    patches = np.tile(np.arange(256, dtype=np.uint8), 588)[: 588 * 256].reshape(256, 588)
    expected = normalised(patches[None], mean, std)[0]
    single = made(28, 28, mean=mean, std=std).normalised(patches)
    half = made(28, 28, mean=mean, std=std, dtype="float16").normalised(patches)
    assert single.dtype == np.float32
    assert half.dtype == np.float16
    np.testing.assert_array_equal(single.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(half.view(np.uint16), expected.astype(np.float16).view(np.uint16))
    np.testing.assert_array_equal(made(28, 28, dtype="uint8").normalised(patches), patches)


def test_halves_of_any_size_are_rounded_as_numpy_does() -> None:
    patches = np.tile(np.arange(256, dtype=np.uint8), 588)[: 588 * 256].reshape(256, 588)
    for std in (1e-3, 1e-5, 3e-6, 1e4, 3e6, 1e7):
        found = made(28, 28, mean=HALVES, std=(std,) * 3, dtype="float16").normalised(patches)
        with np.errstate(over="ignore"):
            expected = normalised(patches[None], HALVES, (std,) * 3)[0].astype(np.float16)
        np.testing.assert_array_equal(found.view(np.uint16), expected.view(np.uint16))


def test_a_clip_is_normalised_as_its_frames_are() -> None:
    vision = made(56, 28)
    clip = np.stack([vision.from_rgb(noise(80, 60, seed)) for seed in range(3)])
    np.testing.assert_array_equal(vision.normalised(clip), np.stack([vision.normalised(frame) for frame in clip]))
    np.testing.assert_array_equal(vision.normalised(clip[:, ::2]), vision.normalised(clip)[:, ::2])


# ITU-R BT.601-7 and BT.709-6: R - Y = rv V, B - Y = bu U, and what is left of Y is G.
PUBLISHED = {"bt601": (1.402, 1.772, 0.299, 0.114), "bt709": (1.5748, 1.8556, 0.2126, 0.0722)}


def converted(luma: Pixels, chroma: Pixels, colour: Colour) -> Pixels:
    """The picture in RGB by the standards' formulas in float64, rounded."""
    rv, bu, red_share, blue_share = PUBLISHED[colour.matrix]
    low, luma_span, chroma_span = (16, 219, 224) if colour.range == "limited" else (0, 255, 255)
    y = (luma.astype(np.float64) - low) / luma_span
    u, v = (chroma[..., i].repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for i in range(2))
    red, blue = y + rv * (u * 0 + (v - 128.0) / chroma_span), y + bu * (u - 128.0) / chroma_span
    green = (y - red_share * red - blue_share * blue) / (1 - red_share - blue_share)
    return np.clip(np.rint(np.stack([red, green, blue], -1) * 255), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("span", ["limited", "full"])
@pytest.mark.parametrize(("width", "height"), [(640, 360), (641, 361), (1, 1), (17, 8)])
def test_nv12_is_the_converted_picture_within_a_level(matrix: Any, span: Any, width: int, height: int) -> None:
    random = np.random.default_rng(width)
    luma = random.integers(0, 256, (height, width), np.uint8)
    chroma = random.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 2), np.uint8)
    colour = Colour(matrix=matrix, range=span)
    found = made(364, 196).from_nv12(luma, chroma, colour).astype(int)
    away = np.abs(found - pillow_patches(converted(luma, chroma, colour), 364, 196))
    assert away.max() <= 1
    assert away.mean() < 0.01


def test_nv12_at_its_own_size_is_the_formula_itself() -> None:
    levels = np.arange(256, dtype=np.uint8)
    luma = np.resize(levels, (252, 280))
    chroma = np.stack([np.resize(levels, (126, 140)), np.resize(levels[::-1], (126, 140))], -1)
    found = made(280, 252).from_nv12(luma, chroma, Colour(matrix="bt601", range="full"))
    # JFIF is BT.601 of full range, and Pillow converts it in tables of its own.
    planes = [luma, *(chroma[..., i].repeat(2, 0).repeat(2, 1) for i in range(2))]
    picture = Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    expected = patchify(np.asarray(picture.convert("RGB"))[None], 14)[0]
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_nv12_rows_may_lie_apart() -> None:
    luma, chroma = noise(320, 100)[..., 0], noise(160, 50)[..., :2]
    vision = made(56, 56)
    part = vision.from_nv12(luma[:, :200], chroma[:, :100])
    whole = vision.from_nv12(np.ascontiguousarray(luma[:, :200]), np.ascontiguousarray(chroma[:, :100]))
    np.testing.assert_array_equal(part, whole)


def test_colours_that_nobody_states_follow_the_number_of_lines() -> None:
    assert usual_colour(576) == Colour(matrix="bt601", range="limited")
    assert usual_colour(720) == Colour(matrix="bt709", range="limited")
    luma, chroma = noise(64, 720)[..., 0], noise(32, 360)[..., :2]
    vision = made(28, 28)
    usual = vision.from_nv12(luma, chroma)
    np.testing.assert_array_equal(usual, vision.from_nv12(luma, chroma, Colour(matrix="bt709")))
    assert (usual != vision.from_nv12(luma, chroma, Colour(matrix="bt601"))).any()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: made(42, 28),
        lambda: made(0, 28),
        lambda: made(28, 28, dtype="bfloat16"),
        lambda: made(28, 28, threads=0),
        lambda: made(28, 28, std=(0.5, 0.0, 0.5)),
        lambda: made(28, 28).from_rgb(np.zeros((4, 4), np.uint8)),
        lambda: made(28, 28).from_rgb(np.zeros((4, 4, 4), np.uint8)),
        lambda: made(28, 28).from_rgb(np.zeros((0, 4, 3), np.uint8)),
        lambda: made(28, 28).from_rgb(np.zeros((4, 4, 3), np.float32)),  # type: ignore[arg-type]
        lambda: made(28, 28).from_nv12(np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8)),
        lambda: made(28, 28).from_nv12(np.zeros((5, 4), np.uint8), np.zeros((2, 2, 2), np.uint8)),
        lambda: made(28, 28).normalised(np.zeros((4, 587), np.uint8)),
        lambda: made(28, 28).normalised(np.zeros((4, 588), np.float32)),  # type: ignore[arg-type]
        lambda: TokenKeeper(None).push(np.zeros((6, 588), np.uint8)),
        lambda: TokenKeeper(None).push(np.zeros((8, 588), np.float32)),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_clear_error(bad: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"expected .*found"):
        bad()


def clip_of_changes() -> Pixels:
    """Frames that repeat, shift by parts of a level, change in one window, and change all over: `[frames, 24, 588]`."""
    random = np.random.default_rng(7)
    frames = [random.integers(60, 190, (24, 588))]
    for sigma in (0.0, 0.25, 0.5, 0.0, 3.0, 0.3, 0.28, 0.26, 0.0):
        frames.append(np.rint(frames[-1] + random.normal(0, sigma, frames[-1].shape)))
    frames.append(frames[-1].copy())
    frames[-1][8:12] += 1
    return np.stack(frames).astype(np.uint8)


@pytest.mark.parametrize(
    "compression",
    [None, Compression(), Compression(threshold=0.5), Compression(threshold=0.09, min_tokens=3)],
    ids=["all", "default", "coarse", "three at least"],
)
@pytest.mark.parametrize(("mean", "std"), [(HALVES, HALVES), (CLIP_MEAN, CLIP_STD)], ids=["halves", "CLIP"])
def test_a_stream_keeps_what_the_whole_clip_keeps(compression: Compression | None, mean: Any, std: Any) -> None:
    clip = clip_of_changes()
    expected = kept_tokens(normalised(clip, mean, std), compression)
    keeper = TokenKeeper(compression, mean=mean, std=std)
    found = np.stack([keeper.push(frame) for frame in clip])
    np.testing.assert_array_equal(found, expected)
    assert keeper.seen == expected.size
    assert keeper.kept_ratio == pytest.approx(expected.mean())
    if compression:
        assert 0.1 < keeper.kept_ratio < 0.9


def test_the_threshold_is_met_to_the_level() -> None:
    # 588 * 4 values of a window; one level is 2 of 255 normalised ones: 117 levels are 0.0995, 118 are 0.1003.
    still = np.full((8, 588), 100, np.uint8)
    for levels, kept in ((117, False), (118, True)):
        moved = still.copy()
        moved[4:].ravel()[:levels] += 1
        keeper = made(28, 56).keeper(Compression())
        keeper.push(still)
        assert keeper.push(moved).tolist() == [not kept, kept]


@pytest.mark.parametrize("mean", [HALVES, CLIP_MEAN, (0.0, 0.0, 0.0)])
def test_a_change_of_exactly_the_threshold_is_decided_in_float32(mean: Any) -> None:
    """With halves for std, n levels are n / 1176 exactly; float32 falls on either side of it, as the rule does."""
    random = np.random.default_rng(3)
    decided = []
    for levels in range(1, 400, 7):
        compression = Compression(threshold=levels / 1176)
        clip = random.integers(0, 255, (1, 40, 588), np.uint8).repeat(2, 0)
        for token in range(10):
            window = clip[1, 4 * token : 4 * token + 4].reshape(-1)
            window[random.permutation(window.size)[:levels]] += 1
            clip[1, 4 * token : 4 * token + 4] = window.reshape(4, 588)
        keeper = TokenKeeper(compression, mean=mean, std=HALVES)
        keeper.push(clip[0])
        found = keeper.push(clip[1])
        np.testing.assert_array_equal(found, kept_tokens(normalised(clip, mean, HALVES), compression)[1])
        decided.extend(found[1:])
    assert 0 < sum(decided) < len(decided)


def test_a_keeper_holds_its_own_copy_and_starts_anew_when_told() -> None:
    buffer = clip_of_changes()[0]
    keeper = TokenKeeper(Compression())
    assert keeper.kept_ratio == 1.0
    assert keeper.push(buffer).all()
    buffer += 1
    assert keeper.push(buffer).all()
    with pytest.raises(ConfigError, match="reset"):
        keeper.push(buffer[:8])
    assert keeper.push(buffer).sum() == 1
    keeper.reset()
    assert keeper.seen == 0
    assert keeper.push(buffer[:8]).all()


def test_a_picture_goes_through_at_the_size_of_its_clip() -> None:
    size = frame_size(1280, 720, 96)
    vision = VisionInput(size)
    values = vision.normalised(vision.from_rgb(noise(1280, 720)))
    assert values.shape == (size.tokens * 4, 588)
    assert -1 <= values.min() < -0.5 < 0.5 < values.max() <= 1


ODD_SOURCES = [(1, 1), (2, 1), (3, 5), (7, 64), (8, 65), (9, 63), (33, 19), (131, 77), (640, 1), (1, 640), (257, 129)]


def guarded_rows(height: int, width: int, channels: int, gap: int) -> Pixels:
    """A guarded picture whose rows lie `gap` bytes apart; behind the last row there is no gap."""
    row = width * channels
    place = guarded(((height - 1) * (row + gap) + row,))
    return np.lib.stride_tricks.as_strided(place, (height, width, channels), (row + gap, channels, 1))


@pytest.mark.parametrize("target", [(28, 28), (56, 84), (364, 28)])
@pytest.mark.parametrize(("width", "height"), ODD_SOURCES)
def test_nothing_beyond_a_picture_or_its_patches_is_touched(width: int, height: int, target: tuple[int, int]) -> None:
    for threads, gap in ((1, 0), (3, 31)):
        core = _native.VisionInput(width, height, *target, 14, threads)
        out = guarded((target[0] * target[1] // 14**2, 3 * 14**2))
        pixels = guarded_rows(height, width, 3, gap)
        pixels[...] = 201
        core.from_rgb(pixels, out)
        assert (out == 201).all()
        luma = guarded_rows(height, width, 1, gap)
        chroma = guarded_rows((height + 1) // 2, (width + 1) // 2, 2, gap)
        luma[...], chroma[...] = 77, 128
        core.from_nv12(luma[..., 0], chroma, _native.YuvMatrix.bt601, _native.YuvRange.full, out)
        assert (out == 77).all()


@pytest.mark.parametrize(("patches", "values"), [(1, 3), (5, 9), (7, 27), (3, 588)])
def test_nothing_beyond_patches_is_touched(patches: int, values: int) -> None:
    a, b, sums = guarded((patches, values)), guarded((patches, values)), guarded((patches, 3), np.uint32)
    a[...], b[...] = 255, 250
    _native.sum_changes(a, b, sums)
    assert (sums == 5 * values // 3).all()
    for kind in (np.float32, np.float16):
        out = guarded((patches, values), kind)
        _native.normalise(a, HALVES, HALVES, out)
        assert (out == 1).all()
