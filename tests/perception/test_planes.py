"""Planes against numpy arithmetic on the pictures themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from guarded import guarded
from numpy.typing import NDArray

from edge_sdk import _native
from edge_sdk.errors import ConfigError
from edge_sdk.perception.planes import PlaneStack, window_planes

LAGS = (1, 3)


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (12, 24, 40), np.uint8)


def expected(pictures: NDArray[np.uint8], t: int) -> NDArray[np.float64]:
    luma = pictures.astype(np.float64)
    motion = [(luma[t] - luma[max(t - lag, 0)]) / 255 * 4 for lag in LAGS]
    return np.stack([luma[t] / 255 * 2 - 1, *motion])


def test_each_push_gives_luma_and_signed_differences(pictures: NDArray[np.uint8]) -> None:
    stack = PlaneStack(1, 24, 40, LAGS)
    for t, picture in enumerate(pictures):
        stack.push(0, picture)
        np.testing.assert_allclose(stack.batch[0], expected(pictures, t), atol=1e-6)


def test_the_first_picture_has_no_motion(pictures: NDArray[np.uint8]) -> None:
    stack = PlaneStack(1, 24, 40, LAGS)
    stack.push(0, pictures[5])
    assert not stack.batch[0, 1:].any()


def test_streams_do_not_see_each_other(pictures: NDArray[np.uint8]) -> None:
    stack = PlaneStack(2, 24, 40, LAGS)
    for t in range(6):
        stack.push(0, pictures[t])
        if t % 2:
            stack.push(1, pictures[t + 6])
    np.testing.assert_allclose(stack.batch[0], expected(pictures, 5), atol=1e-6)
    np.testing.assert_allclose(stack.batch[1], expected(pictures[7::2], 2), atol=1e-6)


def test_reset_makes_the_next_picture_a_first_one_and_leaves_other_streams(pictures: NDArray[np.uint8]) -> None:
    stack = PlaneStack(2, 24, 40, LAGS)
    for t in range(5):
        stack.push(0, pictures[t])
        stack.push(1, pictures[t])
    stack.reset(0)
    stack.push(0, pictures[5])
    stack.push(1, pictures[5])
    assert not stack.batch[0, 1:].any()
    np.testing.assert_allclose(stack.batch[1], expected(pictures, 5), atol=1e-6)


def test_a_view_of_a_larger_picture_is_read_by_its_strides(pictures: NDArray[np.uint8]) -> None:
    large = np.repeat(np.repeat(pictures[0], 2, 0), 2, 1)
    stack = PlaneStack(1, 24, 40, LAGS)
    stack.push(0, large[::2, ::2])
    np.testing.assert_allclose(stack.batch[0], expected(pictures, 0), atol=1e-6)


def test_a_window_equals_pushing_its_frames(pictures: NDArray[np.uint8]) -> None:
    window = window_planes(pictures, LAGS)
    assert window.shape == (12, 3, 24, 40)
    for t in range(12):
        np.testing.assert_allclose(window[t], expected(pictures, t), atol=1e-6)


@pytest.mark.parametrize(
    ("window", "found"),
    [
        (np.zeros((3, 24, 40), np.float32), r"float32 \[3, 24, 40\]"),
        (np.full((3, 24, 40), 300, np.int32), r"int32 \[3, 24, 40\]"),
        (np.zeros((24, 40), np.uint8), r"uint8 \[24, 40\]"),
    ],
)
def test_a_window_of_another_type_or_shape_is_named(window: NDArray[np.uint8], found: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected pictures uint8.*found {found}"):
        window_planes(window, LAGS)


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (np.zeros((24, 41), np.uint8), r"uint8 \[24, 41\]"),
        (np.zeros((24, 40), np.float32), r"float32 \[24, 40\]"),
        (np.zeros((24, 40, 3), np.uint8), r"\[24, 40, 3\]"),
    ],
)
def test_a_wrong_picture_is_named(picture: NDArray[np.uint8], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        PlaneStack(1, 24, 40, LAGS).push(0, picture)


@pytest.mark.parametrize("stream", [-1, 2])
def test_an_unknown_stream_is_named(stream: int) -> None:
    with pytest.raises(ConfigError, match=f"found {stream}"):
        PlaneStack(2, 24, 40, LAGS).push(stream, np.zeros((24, 40), np.uint8))


@pytest.mark.parametrize(("streams", "height", "lags"), [(0, 24, (1,)), (1, 0, (1,)), (1, 24, (0,)), (1, 24, ())])
def test_sizes_and_lags_below_one_are_refused(streams: int, height: int, lags: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PlaneStack(streams, height, 40, lags)


def test_the_binding_refuses_buffers_of_another_shape() -> None:
    picture, out = np.zeros((4, 5), np.uint8), np.zeros((2, 4, 5), np.float32)
    with pytest.raises(ValueError, match="earlier"):
        _native.write_planes(picture, [np.zeros((4, 6), np.uint8)], out)
    with pytest.raises(ValueError, match="out"):
        _native.write_planes(picture, [], out)
    with pytest.raises(TypeError):
        _native.write_planes(picture, [picture], out.astype(np.float64))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int8, np.bool_])
def test_the_binding_refuses_pictures_of_another_type(kind: type[np.generic]) -> None:
    picture, out = np.zeros((4, 5), np.uint8), np.full((2, 4, 5), 9, np.float32)
    other = picture.astype(kind)
    with pytest.raises(TypeError):
        _native.write_planes(other, [picture], out)
    with pytest.raises(TypeError):
        _native.write_planes(picture, [other], out)
    assert (out == 9).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 7), (5, 33), (64, 65)])
def test_nothing_beyond_a_picture_or_its_planes_is_touched(height: int, width: int) -> None:
    now, before, out = guarded((height, width)), guarded((height, width)), guarded((2, height, width), np.float32)
    now[...], before[...] = 255, 204
    _native.write_planes(now, [before], out)
    np.testing.assert_allclose(out[0], 1, atol=1e-6)
    np.testing.assert_allclose(out[1], 0.8, atol=1e-6)


def test_the_committed_stub_is_the_module(tmp_path: Path) -> None:
    made = tmp_path / "_native.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-m", "edge_sdk._native", "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    committed = Path(__file__).parents[2] / "edge_sdk" / "_native.pyi"
    assert made.read_text() == committed.read_text()
