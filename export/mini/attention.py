"""Attention of short rows, whose backward pass torch's fused kernel for CPUs makes slow.

On 60 patches that kernel's backward pass takes five times as long as the products written out (torch 2.13, bfloat16 on
AMX), on 532 causal rows twice as long (on AVX-512); so few scores fit in a cache. A GPU has the fused kernels that it
should have.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Rows that are worked on together: fewer skip more of what a causal row does not see, in smaller products.
_ROWS = 192


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """`scaled_dot_product_attention` of `[batch, heads, n, width]`; a row attends where bool `seen` is true."""
    if query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if seen is not None:
        # Added, not filled in: a sum with a constant costs nothing on the way back.
        scores = scores + torch.zeros(seen.shape, dtype=scores.dtype).masked_fill(~seen, float("-inf"))
    found: Tensor = scores.softmax(-1) @ value
    return found


def attend_causally(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same where each of `n` rows attends to itself and those before it."""
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
