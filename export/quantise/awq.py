"""AWQ: inputs that matter are multiplied before their weights are rounded, and divided again where they come from.

Lin, Tang, Tang et al.: AWQ (arXiv:2306.00978), section 3.2: s = s_x^a, s_x the mean magnitude of each input, and the a
that costs a product least, which a grid finds. The cost follows from the gram of the inputs exactly, so that no
activation is kept. Where a product's inputs come from is a norm's weight, or the linear before: there the division
costs nothing, and graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import output_error
from edge_sdk.export.quantise.rounding import restored, rounded, scales_of

# The paper's grid of exponents.
_STEPS = 20
# Outputs of a matrix that the search looks at, evenly spaced: every output rounds by itself, and all of the 7B's
# would take ten minutes a layer.
_OUTPUTS = 512
_SMALLEST = 1e-4


def awq_scales(
    matrices: Mapping[str, Tensor],
    gram: Tensor,
    magnitude: Tensor,
    formats: Mapping[str, Format],
    dtype: torch.dtype,
) -> Tensor:
    """What to multiply each input by, float32 `[inputs]`, for `matrices [inputs, outputs]` that share their inputs.

    `gram` is XᵀX and `magnitude` the mean of |x| of each input. All ones where nothing is better; those of `matrices`
    without a format count for nothing. Scales are powers of what float16 holds well: the geometric mean of the largest
    and the smallest is 1.
    """
    looked_at = {name: _some(matrix) for name, matrix in matrices.items() if name in formats}
    best, least = torch.ones(len(magnitude), device=magnitude.device), float("inf")
    for step in range(_STEPS):
        scales = _candidate(magnitude, step / _STEPS)
        cost = sum(
            share * output_error(_change(matrix, scales, formats[name], dtype), gram)
            for name, (matrix, share) in looked_at.items()
        )
        if cost < least:
            best, least = scales, cost
    return best


def _candidate(magnitude: Tensor, exponent: float) -> Tensor:
    scales = magnitude.float().pow(exponent).clamp(min=_SMALLEST)
    return scales / (scales.max() * scales.min()).sqrt()


def _some(matrix: Tensor) -> tuple[Tensor, float]:
    """Evenly spaced outputs of a matrix, and for how many each of them stands."""
    step = -(-matrix.shape[1] // _OUTPUTS)
    some = matrix[:, ::step]
    return some, matrix.shape[1] / some.shape[1]


def _change(matrix: Tensor, scales: Tensor, form: Format, dtype: torch.dtype) -> Tensor:
    """By how much the weights differ once they are multiplied, rounded, and divided again."""
    wide = matrix.float() * scales[:, None]
    steps = scales_of(wide, form, dtype)
    return (restored(rounded(wide, steps, form), steps, form) - wide) / scales[:, None]
