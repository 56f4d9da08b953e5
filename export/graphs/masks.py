"""Dropout with masks that depend only on a given seed, not on the thread or process that computes them.

torch's own dropout draws from one generator for all threads, in the order in which they reach it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MASKS = 77
"""Stands in seeds of masks, so that no window is drawn from the same."""


class Dropout(nn.Module):
    """Zero a `share` of the values in training, and scale the others up."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0
        self.masks: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape, after dropout; unchanged in evaluation mode or with a share of 0."""
        if not self.training or not self.share:
            return x
        if self.masks is None:
            return functional.dropout(x, self.share)
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.masks)
        return x * kept / (1 - self.share)


@contextmanager
def masks_of(model: nn.Module, key: Sequence[int]) -> Iterator[None]:
    """Let every `Dropout` of `model` draw its masks from the seed `key`, in the layers' order, inside the context."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    place = next(model.parameters()).device
    seed = int(np.random.default_rng(key).integers(2**63))
    generator = torch.Generator(place).manual_seed(seed)
    for layer in layers:
        layer.masks = generator
    try:
        yield
    finally:
        # Models get copied, and a generator cannot be.
        for layer in layers:
            layer.masks = None
