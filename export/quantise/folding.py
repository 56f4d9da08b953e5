"""A model whose linears' weights are multiplied by scales, and whose inputs are divided by them: what AWQ rounds.

The inputs of q, k and v come from a norm, as do those of gate and up; those of down are gate times up. So the division
goes into a norm's weight, or into up's outputs, and the model's results do not change. The inputs of o are left alone:
several query heads share one value head, and one scale would have to serve them all.

LoRA matrices that stay beside the weights get the divided inputs too: A is multiplied like the weight, and the B of up
is divided like its outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import ChangedWeights, Weights

Scales = Callable[[int, str], Tensor | None]
"""What a layer's inputs of a group are multiplied by, float32 `[inputs]`; None where they are left alone."""

GROUPS = {"q": "qkv", "k": "qkv", "v": "qkv", "o": "o", "gate": "mlp", "up": "mlp", "down": "down"}
"""The linears of a layer, and which inputs they take: those of one group take the same."""
FOLDED = ("qkv", "mlp", "down")
"""The groups whose division has somewhere to go."""

_NORMS = {"norm1": "qkv", "norm2": "mlp"}
_TENSOR = re.compile(r"decoder\.layers\.(\d+)\.(\w+)\.weight")


class FoldedWeights(ChangedWeights):
    """`weights` with `scales` folded in; the tensors concerned are float32. Implements `Weights`."""

    def __init__(self, weights: Weights, scales: Scales) -> None:
        super().__init__(weights)
        self._scales = scales

    def tensor(self, name: str) -> Tensor:
        """The tensor; see `Weights`."""
        tensor, found = self._weights.tensor(name), _TENSOR.fullmatch(name)
        if not found:
            return tensor
        layer, part = int(found[1]), found[2]
        if part in _NORMS:
            scales = self._scales(layer, _NORMS[part])
            return tensor if scales is None else tensor.float() / scales
        inputs, outputs = self._scales(layer, GROUPS[part]), _outputs(self._scales, layer, part)
        if inputs is not None:
            tensor = tensor.float() * inputs
        return tensor if outputs is None else tensor.float() / outputs[:, None]


class FoldedAdapter(Adapter):
    """An adapter that is applied beside `FoldedWeights`."""

    def __init__(self, adapter: Adapter, scales: Scales) -> None:
        vars(self).update(vars(adapter))
        self._scales = scales

    def lora(self, layer: int, linear: str) -> tuple[Tensor, Tensor, float] | None:
        """See `Adapter`."""
        pair = super().lora(layer, linear)
        if pair is None:
            return None
        a, b, scale = pair
        inputs, outputs = self._scales(layer, GROUPS[linear]), _outputs(self._scales, layer, linear)
        a = a if inputs is None else a.float() * inputs
        return a, b if outputs is None else b.float() / outputs[:, None], scale


def _outputs(scales: Scales, layer: int, part: str) -> Tensor | None:
    return scales(layer, "down") if part == "up" else None


def folded_gram(gram: Tensor, scales: Tensor | None) -> Tensor:
    """The gram of inputs that are divided by `scales`."""
    return gram if scales is None else gram / torch.outer(scales, scales)
