"""Prepare pictures from a camera or file for the video LLM, a frame at a time: patches, and which tokens are kept.

The work is done in C++ (`csrc/vision_input.h`); `patches.py` is the same in numpy. Patches are bytes first, and
normalised values are computed from them: waiting frames need a quarter of the memory, and the compression rule needs
exact values, which float16 cannot hold.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk import _native
from edge_sdk.bundle.manifest_language import Compression, Language, VisionProfile
from edge_sdk.errors import ConfigError
from edge_sdk.reasoning.grid import FrameSize
from edge_sdk.reasoning.patches import MERGE, Pixels, kept_tokens
from edge_sdk.types import DType, Value

PerChannel = tuple[float, float, float]
# float16, float32 or uint8, as the vision graph takes them
Patches = NDArray[Any]

# Pictures with more lines than this are assumed to be BT.709 if nothing declares their colour, as in GStreamer.
STANDARD_LINES = 576

# Share of the threshold within which float32 decides. Three roundings of a value, each by at most 2^-24 of it, move a
# change of one grey level by less than 1e-4 of it, provided that the mean is itself a possible grey level.
UNSURE = 1e-3


class Colour(Value, frozen=True, kw_only=True):
    """How video encodes colour: the luma weights (ITU-R BT.601 or BT.709), and whether black is 16 or 0."""

    matrix: Literal["bt601", "bt709"] = "bt709"
    range: Literal["limited", "full"] = "limited"


def usual_colour(height: int) -> Colour:
    """Return the colour to assume for undeclared video of `height` lines: limited range, BT.709 above 576 lines.

    FFmpeg, with which the reference reads its clips, assumes BT.601 at any height, and so does `capture` for files.
    """
    return Colour(matrix="bt709" if height > STANDARD_LINES else "bt601")


class VisionInput:
    """Converts pictures of any size to patches: resized to one size, cut, and in the order of the vision tower.

    Resizing equals Pillow's antialiased bicubic byte for byte (horizontal first, as in every Pillow before 13). Filter
    weights are recomputed when the size of the pictures changes. Only one thread at a time may use an instance.
    """

    def __init__(
        self,
        size: FrameSize,
        *,
        patch: int = 14,
        mean: PerChannel = (0.5, 0.5, 0.5),
        std: PerChannel = (0.5, 0.5, 0.5),
        dtype: DType = "float32",
        threads: int = 1,
    ) -> None:
        """Take a `size` in whole windows of 2 x 2 patches, and the `dtype` that `normalised` returns.

        `dtype` is "float32", "float16", or "uint8" for no normalisation. Raises `ConfigError` for unusable values.
        """
        if dtype not in ("float32", "float16", "uint8"):
            raise ConfigError(f"expected patches of float32, float16 or uint8, found {dtype}")
        if patch < 1 or threads < 1 or min(std) <= 0:
            raise ConfigError(f"expected patch and threads of at least 1, std above 0; found {patch}, {threads}, {std}")
        window = MERGE * patch
        if min(size.width, size.height) < 1 or size.width % window or size.height % window:
            raise ConfigError(f"expected sides that are multiples of {window} pixels, found {size.width}x{size.height}")
        self.size, self.patch, self.dtype, self.threads = size, patch, dtype, threads
        self._mean, self._std = mean, std
        self._shape = (size.width * size.height // patch**2, 3 * patch**2)
        self._source = (0, 0)
        self._native: _native.VisionInput | None = None

    @classmethod
    def of(cls, language: Language, profile: VisionProfile, *, threads: int = 1) -> VisionInput:
        """Create the input for a bundle's profile, with its size and the model's patch, pixel statistics and type."""
        return cls(
            FrameSize(width=profile.width, height=profile.height),
            patch=language.patch,
            mean=language.pixel_mean,
            std=language.pixel_std,
            dtype=language.dtype,
            threads=threads,
        )

    def from_rgb(self, pixels: Pixels) -> Pixels:
        """Return uint8 patches `[patches, values]` of an RGB picture, uint8 `[height, width, 3]`.

        Rows need not be contiguous. Raises `ConfigError` for another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ConfigError(f"expected a picture uint8 [height, width, 3], found {_told(pixels)}")
        patches = np.empty(self._shape, np.uint8)
        self._for(pixels.shape[1], pixels.shape[0]).from_rgb(_rows(pixels), patches)
        return patches

    def from_nv12(self, luma: Pixels, chroma: Pixels, colour: Colour | None = None) -> Pixels:
        """Return uint8 patches `[patches, values]` of an NV12 picture, as `from_rgb` would after conversion to RGB.

        `luma` is uint8 `[height, width]`, `chroma` uint8 `[ceil(height / 2), ceil(width / 2), 2]` (U, V); their rows
        need not be contiguous. Each chroma sample applies unfiltered to the pixels it covers. `colour` defaults to
        `usual_colour`. Raises `ConfigError` for other types or shapes.
        """
        height, width = luma.shape if luma.ndim == 2 else (0, 0)
        expected = ((height + 1) // 2, (width + 1) // 2, 2)
        if luma.dtype != np.uint8 or chroma.dtype != np.uint8 or not luma.size or chroma.shape != expected:
            raise ConfigError(
                "expected luma uint8 [height, width] and chroma uint8 [ceil(height / 2), ceil(width / 2), 2], "
                f"found {_told(luma)} and {_told(chroma)}"
            )
        colour = colour or usual_colour(height)
        matrix, span = _native.YuvMatrix[colour.matrix], _native.YuvRange[colour.range]
        patches = np.empty(self._shape, np.uint8)
        self._for(width, height).from_nv12(_rows(luma), _rows(chroma), matrix, span, patches)
        return patches

    def normalised(self, patches: Pixels) -> Patches:
        """Return (x / 255 - mean) / std by channel, in `dtype`, for `patches [..., values]`.

        The patches come from `from_rgb` or `from_nv12`. float16 is the float32 value rounded to nearest even; with
        uint8 the patches are returned unchanged. Raises `ConfigError` for another type or shape.
        """
        if patches.dtype != np.uint8 or not patches.ndim or patches.shape[-1] != self._shape[1]:
            raise ConfigError(f"expected patches uint8 [..., {self._shape[1]}], found {_told(patches)}")
        if self.dtype == "uint8":
            return patches
        return _normalised(patches, self._mean, self._std, self.dtype)

    def keeper(self, compression: Compression | None) -> TokenKeeper:
        """Return a token keeper for one stream of this input's patches."""
        return TokenKeeper(compression, mean=self._mean, std=self._std)

    def _for(self, width: int, height: int) -> _native.VisionInput:
        if self._native is None or self._source != (width, height):
            self._native = _native.VisionInput(
                width, height, self.size.width, self.size.height, self.patch, self.threads
            )
            self._source = (width, height)
        return self._native


class TokenKeeper:
    """Decides which tokens of a stream go to the decoder, frame by frame; the rule is that of `patches.kept_tokens`.

    A frame is compared with the previous one, whether or not its tokens were kept. Changes are summed in whole grey
    levels. Where their mean is so near the threshold that float32 rounding decides, the change is computed in float32
    as in the rule. Since the last `reset`, `kept` of `seen` tokens went to the decoder.
    """

    def __init__(
        self,
        compression: Compression | None,
        *,
        mean: PerChannel = (0.5, 0.5, 0.5),
        std: PerChannel = (0.5, 0.5, 0.5),
    ) -> None:
        """Take the manifest's `compression`, None to keep everything, and the model's pixel `mean` and `std`."""
        self._compression, self._mean, self._std = compression, mean, std
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: the next frame counts as its first, and the counts restart at 0."""
        self._last: Pixels | None = None
        self.kept = self.seen = 0

    @property
    def kept_ratio(self) -> float:
        """The share of tokens that were kept; 1.0 before the first frame."""
        return self.kept / self.seen if self.seen else 1.0

    def push(self, patches: Pixels) -> NDArray[np.bool_]:
        """Return which tokens of the next frame, uint8 `[patches, values]`, are kept: bool `[tokens]`.

        Raises `ConfigError` for another type, or a shape that differs from the previous frames'; the frame is then not
        counted.
        """
        self._check(patches)
        if self._last is None or self._compression is None:
            keep = np.ones(len(patches) // MERGE**2, bool)
        else:
            keep = self._changed(self._last, np.ascontiguousarray(patches), self._compression)
        self._last = patches.copy()
        self.kept += int(keep.sum())
        self.seen += len(keep)
        return keep

    def _changed(self, before: Pixels, now: Pixels, compression: Compression) -> NDArray[np.bool_]:
        sums = np.empty((len(now), 3), np.uint32)
        _native.sum_changes(before, now, sums)
        # A change of one grey level changes the normalised value by 1 / (255 * std); the rule multiplies it by 255.
        change = sums.reshape(-1, MERGE**2, 3).sum(1) @ (1 / np.array(self._std)) / (MERGE**2 * now.shape[1])
        if (np.abs(change - compression.threshold) <= UNSURE * abs(compression.threshold)).any():
            pair = _normalised(np.stack((before, now)), self._mean, self._std, "float32")
            exact: NDArray[np.bool_] = kept_tokens(pair, compression)[1]
            return exact
        keep: NDArray[np.bool_] = change > compression.threshold
        if keep.sum() < compression.min_tokens:
            keep[: compression.min_tokens] = True
        return keep

    def _check(self, patches: Pixels) -> None:
        expected = patches.shape if self._last is None else self._last.shape
        whole = patches.ndim == 2 and len(patches) % MERGE**2 == 0 and patches.shape[1] % 3 == 0
        if patches.dtype != np.uint8 or not patches.size or not whole or patches.shape != expected:
            raise ConfigError(
                f"expected patches uint8 [patches, values] in whole windows, of a shape like {list(expected)}, "
                f"found {_told(patches)}; a stream of another size needs `reset` first"
            )


def _normalised(patches: Pixels, mean: PerChannel, std: PerChannel, dtype: str) -> Patches:
    values = np.empty(patches.shape, dtype)
    rows = np.ascontiguousarray(patches).reshape(-1, patches.shape[-1])
    _native.normalise(rows, mean, std, values.reshape(rows.shape))
    return values


def _rows(pixels: Pixels) -> Pixels:
    """Return `pixels` if the values of each row are contiguous and the rows are in order, else such a copy."""
    inner = int(np.prod(pixels.shape[2:]))
    in_order = pixels.strides[0] >= pixels.shape[1] * inner or pixels.shape[0] == 1
    side_by_side = pixels.strides[1:] == (inner, 1)[: pixels.ndim - 1]
    return pixels if in_order and side_by_side else np.ascontiguousarray(pixels)


def _told(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
