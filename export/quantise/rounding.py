"""Round to nearest, pack, and reverse both: the arithmetic that every method shares.

A scale is rounded to its stored type before it divides anything, so that the stored weights are the measured ones.
Blocks also use the lowest number, -8 for 4 bits: where a block's largest weight is negative, its step is an eighth
finer than with the highest number alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.quantise.formats import Format


def scales_of(matrix: Tensor, form: Format, dtype: torch.dtype) -> Tensor:
    """Scales of `matrix [inputs, outputs]`, shaped as `Format.scale_shape`: they map its extremes to the format's.

    A block of zeros has the scale 1. Raises `CheckpointError` where a scale does not fit `dtype`.
    """
    low, high = _extremes(matrix, form)
    wide = torch.maximum(high.float() / form.highest, low.float() / form.lowest)
    scales = wide.to(dtype)
    if not bool(torch.isfinite(scales).all()):
        raise CheckpointError(f"a scale of {float(wide.max()):.3g} does not fit {dtype}; take another checkpoint")
    return torch.where(scales > 0, scales, torch.ones_like(scales))


def rounded(matrix: Tensor, scales: Tensor, form: Format) -> Tensor:
    """Numbers, int8 `[inputs, outputs]`: rounded to nearest, ties to even as in ONNX, clamped to the format's range.

    For fp8 they are the bits of `torch.float8_e4m3fn`.
    """
    steps = _blocks(matrix.float(), form) / _beside(scales, form)
    if form.number == "fp8":
        return steps.clamp_(form.lowest, form.highest).to(torch.float8_e4m3fn).view(torch.int8).reshape(matrix.shape)
    return steps.round_().clamp_(form.lowest, form.highest).to(torch.int8).reshape(matrix.shape)


def restored(numbers: Tensor, scales: Tensor, form: Format) -> Tensor:
    """The weights that `numbers` represent, float32 `[inputs, outputs]`."""
    values = numbers.contiguous().view(torch.float8_e4m3fn) if form.number == "fp8" else numbers
    return (_blocks(values.float(), form) * _beside(scales, form)).reshape(numbers.shape)


def packed(numbers: Tensor, form: Format) -> Tensor:
    """Bytes as ONNX stores them, row by row; of two 4-bit numbers the first is in the lower half (onnx.proto, INT4).

    An odd count of 4-bit numbers ends with half a byte of zeros, so pieces of a matrix need even counts to be joined.
    """
    flat = numbers.contiguous().flatten().view(torch.uint8)
    if form.bits == 8:
        return flat
    if len(flat) % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    return (flat[0::2] & 0xF) | (flat[1::2] << 4)


def unpacked(stored: Tensor, form: Format, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `packed`: int8 of `shape`."""
    if form.bits == 8:
        return stored.view(torch.int8).reshape(shape)
    halves = torch.stack([stored & 0xF, stored >> 4], 1).flatten()[: torch.Size(shape).numel()]
    return ((halves.to(torch.int8) ^ 8) - 8).reshape(shape)


def _extremes(matrix: Tensor, form: Format) -> tuple[Tensor, Tensor]:
    found = torch.aminmax(_blocks(matrix, form), dim=1 if form.block else 0)
    return found.min, found.max


def _blocks(matrix: Tensor, form: Format) -> Tensor:
    return matrix.unflatten(0, (-1, form.block)) if form.block else matrix


def _beside(scales: Tensor, form: Format) -> Tensor:
    return scales.float()[:, None] if form.block else scales.float()
