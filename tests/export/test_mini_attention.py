"""Attention written out, against torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edge_sdk.export.mini.attention import attend, attend_causally

# One row, one block, a block and a row, some blocks and a part.
LENGTHS = (1, 192, 193, 532)


def _parts(n: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(n)
    return tuple(torch.randn(2, 3, n, 16, requires_grad=True) for _ in range(3))


@pytest.mark.parametrize("n", LENGTHS)
def test_causal_rows_are_torchs_own(n: int) -> None:
    parts, goal = _parts(n), torch.randn(2, 3, n, 16)
    found = attend_causally(*parts)
    expected = functional.scaled_dot_product_attention(*parts, is_causal=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    slopes = torch.autograd.grad(found, parts, goal)
    torch.testing.assert_close(slopes, torch.autograd.grad(expected, parts, goal), atol=1e-5, rtol=1e-4)


def test_masked_rows_are_torchs_own() -> None:
    parts = _parts(70)
    seen = torch.rand(2, 1, 70, 70) < 0.4
    seen |= torch.eye(70, dtype=torch.bool)
    expected = functional.scaled_dot_product_attention(*parts, attn_mask=seen)
    torch.testing.assert_close(attend(*parts, seen), expected, atol=1e-5, rtol=1e-5)
