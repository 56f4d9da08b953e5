"""Dropout whose masks can be drawn from a seed of their own, whichever thread or process computes them.

torch draws from one generator for all threads, in the order in which they come to it.
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
    """Leaves out a `share` of the values in training, and scales the others up."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0
        self.masks: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape; as it is where nothing is left out."""
        if not self.training or not self.share:
            return x
        if self.masks is None:
            return functional.dropout(x, self.share)
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.masks)
        return x * kept / (1 - self.share)


@contextmanager
def masks_of(model: nn.Module, key: Sequence[int]) -> Iterator[None]:
    """Inside, every `Dropout` of `model` draws its masks, in the order of the layers, from the seed `key`."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    place = next(model.parameters()).device
    seed = int(np.random.default_rng(key).integers(2**63))
    generator = torch.Generator(place).manual_seed(seed)
    for layer in layers:
        layer.masks = generator
    try:
        yield
    finally:
        # Generators cannot be copied, and models are.
        for layer in layers:
            layer.masks = None
