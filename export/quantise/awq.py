"""AWQ: scale up the weights of the inputs that matter before rounding, and divide those inputs by the same scales.

Lin, Tang, Tang et al.: AWQ (arXiv:2306.00978), section 3.2: s = s_x^a, where s_x is the mean magnitude of each input,
and a grid search finds the a with the smallest error of the product. The error follows exactly from the inputs' gram,
so that no activation is kept. The division is folded into whatever produces the inputs, a norm's weight or the linear
before: it costs nothing there, and graphs do not change.
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
# Number of outputs of a matrix that the search uses, evenly spaced. Each output rounds independently of the others,
# and all outputs of the 7B would take ten minutes per layer.
_OUTPUTS = 512
_SMALLEST = 1e-4


def awq_scales(
    matrices: Mapping[str, Tensor],
    gram: Tensor,
    magnitude: Tensor,
    formats: Mapping[str, Format],
    dtype: torch.dtype,
) -> Tensor:
    """Scales of each input's weights, float32 `[inputs]`, for `matrices [inputs, outputs]` that share their inputs.

    `gram` is XᵀX and `magnitude` the mean of |x| of each input. The scales are all ones where nothing is better;
    `matrices` without a format are ignored. The geometric mean of the largest and the smallest scale is 1, which keeps
    scales in float16's range.
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
    """Evenly spaced outputs of a matrix, and how many outputs each of them represents."""
    step = -(-matrix.shape[1] // _OUTPUTS)
    some = matrix[:, ::step]
    return some, matrix.shape[1] / some.shape[1]


def _change(matrix: Tensor, scales: Tensor, form: Format, dtype: torch.dtype) -> Tensor:
    """The change of the weights after they are multiplied by `scales`, rounded, and divided again."""
    wide = matrix.float() * scales[:, None]
    steps = scales_of(wide, form, dtype)
    return (restored(rounded(wide, steps, form), steps, form) - wide) / scales[:, None]
