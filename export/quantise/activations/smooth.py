"""SmoothQuant: move part of the inputs' spread into the weights, which are easier to quantise.

Xiao et al.: SmoothQuant (arXiv:2211.10438), equation 4: inputs are divided, and weights multiplied, by
max|X_j|^a / max|W_j|^(1 - a) for each input j. The division goes into what comes before, as AWQ's does.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

HIGHEST = 127
_SMALLEST = 1e-5


def smooth_scales(matrices: Iterable[Tensor], largest: Tensor, migration: float) -> Tensor:
    """Scales of each input's weights, float32 `[inputs]`, for `matrices [inputs, outputs]` that share their inputs.

    `largest` is the largest |x| of each input, `migration` the paper's a, 0..1. The geometric mean of the largest and
    the smallest scale is 1, so that both the divided and the multiplied values fit float16.
    """
    weights = torch.stack([matrix.float().abs().amax(1) for matrix in matrices]).amax(0)
    scales = largest.float().clamp(min=_SMALLEST) ** migration / weights.clamp(min=_SMALLEST) ** (1 - migration)
    scales = scales.clamp(min=_SMALLEST)
    return scales / (scales.max() * scales.min()).sqrt()


def input_scale(largest: Tensor, scales: Tensor | None, dtype: torch.dtype, highest: int = HIGHEST) -> Tensor:
    """The single scale of a product's inputs, a scalar of `dtype`: it maps the largest |x| recorded to `highest`.

    `largest [inputs]` was recorded before the inputs are divided by `scales`.
    """
    seen = largest.float() if scales is None else largest.float() / scales
    scale = (seen.max() / highest).to(dtype)
    return scale if float(scale) > 0 else torch.ones((), dtype=dtype)
