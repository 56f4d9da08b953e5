"""GPTQ: round weights in turn, and adjust the weights not yet rounded to compensate for the error.

Frantar, Ashkboos, Hoefler, Alistarh: GPTQ (arXiv:2210.17323), algorithm 1. A matrix is `[inputs, outputs]` here, so its
rows are the paper's columns. The paper's Hessian is 2·XᵀX; the factor cancels out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rounding import scales_of
from edge_sdk.export.quantise.stored_file import Numbers

# The paper's damping: this share of the diagonal's mean is added to the diagonal.
DAMPING = 0.01
# Rows that are rounded before the remaining rows are updated (the paper's B); every block size divides it.
_STRIDE = 128
# Above this number of inputs a factorisation in float64 would take gigabytes.
_EXACT_INPUTS = 6144
# Columns of the inverse computed at a time; the rows below them are zeros, so that this also halves the work.
_COLUMNS = 2048


def gptq(matrix: Tensor, gram: Tensor, form: Format, dtype: torch.dtype, *, ordered: bool = False) -> Numbers:
    """Whole numbers int8 `[inputs, outputs]` and scales in `dtype` of `matrix`, by `gram`, XᵀX `[inputs, inputs]`.

    `ordered`: round inputs with the most energy first, with scales from the original weights. Otherwise inputs are
    rounded in turn, and a block's scales come from its weights when it is reached. Raises `ConfigError` for a gram that
    is not finite or cannot be factorised.
    """
    scales = scales_of(matrix, form, dtype)
    device = matrix.device
    energy = gram.diagonal().argsort(descending=True, stable=True)
    order = energy if ordered else torch.arange(len(matrix), device=device)
    places = order.tolist()
    factor = _factor(gram[order][:, order] if ordered else gram)
    work = matrix.float()[order]
    numbers = torch.empty(matrix.shape, dtype=torch.int8, device=device)
    for start in range(0, len(work), _STRIDE):
        stop = min(start + _STRIDE, len(work))
        errors = torch.empty(stop - start, work.shape[1], device=device)
        for row in range(start, stop):
            place = places[row]
            if form.block and not ordered and row % form.block == 0:
                scales[row // form.block] = scales_of(work[row : row + form.block], form, dtype)[0]
            scale = scales[place // form.block] if form.block else scales
            wide = scale.float()
            numbers[place] = (work[row] / wide).round_().clamp_(form.lowest, form.highest)
            error = work[row] - numbers[place] * wide
            errors[row - start] = error / factor[row, row]
            work[row + 1 : stop] -= torch.outer(factor[row, row + 1 : stop], errors[row - start])
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return numbers, scales


def output_error(change: Tensor, gram: Tensor) -> float:
    """The squared error of a product, over all rows summed in `gram`, for a matrix changed by `change`."""
    return float(((gram @ change) * change).sum(dtype=torch.float64))


def _factor(gram: Tensor) -> Tensor:
    """U, upper triangular float32, with UᵀU the inverse of the damped gram.

    Reverse the gram's order, take its Cholesky factor and reverse that: the result is an upper triangular M with M·Mᵀ
    the gram, and U is its inverse. This avoids the gram's inverse, which the paper's own factorisation computes.
    """
    if not bool(torch.isfinite(gram).all()):
        raise ConfigError("activation statistics hold NaN or infinity; calibrate again, if needed with other clips")
    wide = gram.to(torch.float64 if len(gram) <= _EXACT_INPUTS else torch.float32).flip(0, 1)
    del gram
    mean = float(wide.diagonal().mean())
    wide.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)
    lower, failed = torch.linalg.cholesky_ex(wide)
    del wide
    if int(failed):
        raise ConfigError("activation statistics cannot be factorised; calibrate on more clips")
    upper = lower.flip(0, 1)
    del lower
    # A few columns at a time: a whole identity beside the factor would take as much memory as another gram.
    found = torch.empty(upper.shape, device=upper.device)
    for start in range(0, len(upper), _COLUMNS):
        stop = min(start + _COLUMNS, len(upper))
        eye = torch.zeros(stop, stop - start, dtype=upper.dtype, device=upper.device)
        eye[start:].fill_diagonal_(1)
        found[:stop, start:stop] = torch.linalg.solve_triangular(upper[:stop, :stop], eye, upper=True)
        found[stop:, start:stop] = 0
    return found
