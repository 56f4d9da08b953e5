"""Build a part of the model as a torch module, filled from a checkpoint one tensor at a time.

The module is built on the meta device, so that a part takes only the memory of its own weights. Its parameters have
the canonical names after the part's prefix. Constants such as RoPE's tables are buffers and are allocated immediately.
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
    """Weights with some matrices whose inputs are rounded to 8 bits."""

    def input_rounding(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """The function that rounds the inputs of the matrix `name`; None where they are not rounded."""


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
    """Make the linears of `module` round their inputs to 8 bits where `weights` say so; returns hooks that undo it."""
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
