"""A part of the model as a torch module, filled from a checkpoint one tensor at a time.

The module is laid out without memory, so that a part costs its own weights and no more; its parameters carry the
canonical names behind the part's prefix. Constants such as RoPE's tables are buffers and are made in full at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.layouts import EMBEDDING, HEAD

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class RoundedInputs(Protocol):
    """Weights some of whose products take inputs of 8 bits."""

    def input_rounding(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """What rounds the inputs of the matrix `name`; None where they are left as they are."""


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
    round_inputs(module, weights, prefix)
    return module.eval()


def round_inputs(module: nn.Module, weights: Weights, prefix: str) -> list[RemovableHandle]:
    """Have the linears of `module` round their inputs to 8 bits where `weights` say so; what takes that back."""
    found: list[RemovableHandle] = []
    if isinstance(weights, RoundedInputs):
        for name, linear in module.named_modules():
            taken = weights.input_rounding(f"{prefix}{name}.weight") if isinstance(linear, nn.Linear) else None
            if taken is not None:
                found.append(linear.register_forward_pre_hook(_rounder(taken)))
    return found


def _rounder(taken: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    return lambda linear, given: (taken(given[0]),)


def source_name(weights: Weights, name: str) -> str:
    """The tensor of `weights` that holds the values called `name`: a tied head is the embedding table."""
    return EMBEDDING if name == HEAD and weights.config.text.tied else name
