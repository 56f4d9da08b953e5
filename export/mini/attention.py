"""Attention over few rows, written out for CPUs, where the backward pass of torch's fused kernel is slow.

On 60 patches that backward pass takes five times as long as the explicit products (torch 2.13, bfloat16 on AMX), on 532
causal rows twice as long (on AVX-512): so few scores fit in a cache. A GPU uses torch's fused kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Rows per block: smaller blocks skip more of what a causal row does not see, but make smaller products.
_ROWS = 192


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """`scaled_dot_product_attention` of `[batch, heads, n, width]`; a row attends where bool `seen` is true."""
    if query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if seen is not None:
        # Added, not filled in: a sum with a constant costs nothing in the backward pass.
        scores = scores + torch.zeros(seen.shape, dtype=scores.dtype).masked_fill(~seen, float("-inf"))
    found: Tensor = scores.softmax(-1) @ value
    return found


def attend_causally(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Like `attend`, but each of `n` rows attends to itself and the rows before it."""
    if query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    n = query.shape[2]
    seen = torch.ones(n, n, dtype=torch.bool).tril()
    return torch.cat(
        [
            attend(query[:, :, first:last], key[:, :, :last], value[:, :, :last], seen[first:last, :last])
            for first, last in ((first, min(first + _ROWS, n)) for first in range(0, n, _ROWS))
        ],
        2,
    )
