"""Attention of short rows, whose backward pass torch's fused kernel for CPUs makes slow.

On 60 patches that kernel's backward pass takes five times as long as the products written out (torch 2.13, bfloat16 on
AMX); the scores of so few patches fit in a cache. A GPU has the fused kernels that it should have.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """`scaled_dot_product_attention` of `[batch, heads, n, width]`; a row attends where bool `seen` is true."""
    if query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    found: Tensor = scores.softmax(-1) @ value
    return found
