"""SmoothQuant: a part of the spread of inputs is moved into the weights, which bear it better.

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
    """What to multiply each input's weights by, float32 `[inputs]`, for `matrices [inputs, outputs]` that share inputs.

    `largest` is the largest |x| of each input, `migration` the paper's a, 0..1. The geometric mean of the largest and
    the smallest is 1, so that float16 holds what is divided as well as what is multiplied.
    """
    weights = torch.stack([matrix.float().abs().amax(1) for matrix in matrices]).amax(0)
    scales = largest.float().clamp(min=_SMALLEST) ** migration / weights.clamp(min=_SMALLEST) ** (1 - migration)
    scales = scales.clamp(min=_SMALLEST)
    return scales / (scales.max() * scales.min()).sqrt()


def input_scale(largest: Tensor, scales: Tensor | None, dtype: torch.dtype, highest: int = HIGHEST) -> Tensor:
    """The one scale of a product's inputs, a number of `dtype`: the largest |x| that was seen becomes `highest`.

    `largest [inputs]` is as it was before the inputs are divided by `scales`.
    """
    seen = largest.float() if scales is None else largest.float() / scales
    scale = (seen.max() / highest).to(dtype)
    return scale if float(scale) > 0 else torch.ones((), dtype=dtype)
