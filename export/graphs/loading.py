"""A part of the model as a torch module, filled from a checkpoint one tensor at a time.

The module is laid out without memory, so that a part costs its own weights and no more; its parameters carry the
canonical names behind the part's prefix. Constants such as RoPE's tables are buffers and are made in full at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.layouts import EMBEDDING, HEAD

M = TypeVar("M", bound=nn.Module)


def load(weights: Weights, prefix: str, build: Callable[[], M], dtype: torch.dtype = torch.float32) -> M:
    """`build()` with the tensors of `weights` whose names begin with `prefix`, in evaluation mode.

    Raises `CheckpointError` for a tensor with NaN or infinity.
    """
    with torch.device("meta"):
        module = build()
    for name in [name for name, _ in module.named_parameters()]:
        tensor = weights.tensor(source_name(weights, prefix + name)).to(dtype)
        holder = module.get_submodule(name.rpartition(".")[0])
        setattr(holder, name.rpartition(".")[2], nn.Parameter(tensor, requires_grad=False))
    return module.eval()


def source_name(weights: Weights, name: str) -> str:
    """The tensor of `weights` that holds the values called `name`: a tied head is the embedding table."""
    return EMBEDDING if name == HEAD and weights.config.text.tied else name
