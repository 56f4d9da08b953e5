"""The vision tower with quantised linears: how their inputs are smoothed, and the file that holds them.

Attention, norms and the patch embedding keep the graph's element type. A norm's outputs are smoothed into the linears
after it; the inputs of `out` and of `fc2`, which come from no norm, are not smoothed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, partial

import torch
from torch import Tensor

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import ChangedWeights, Weights
from edge_sdk.export.quantise.activations.inputs import InputScale, group_of, input_scale_name
from edge_sdk.export.quantise.activations.smooth import input_scale, smooth_scales
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.stored_file import Nearest, Plain, Source, StoredFile
from edge_sdk.types import DType

LINEARS = ("q", "k", "v", "out", "fc1", "fc2")
_NORMS = {"norm1": "qkv", "norm2": "fc1"}
_TENSOR = re.compile(r"vision\.layers\.(\d+)\.(\w+)\.(weight|bias)")


def vision_matrices(layers: int) -> tuple[str, ...]:
    """Every matrix of the tower that may be quantised."""
    return tuple(f"vision.layers.{layer}.{linear}.weight" for layer in range(layers) for linear in LINEARS)


class SmoothVision(ChangedWeights):
    """`weights` with vision norms divided and the linears after them multiplied; float32. Implements `Weights`.

    `maxima` come from `vision_statistics`; without them nothing is changed.
    """

    def __init__(self, weights: Weights, maxima: Mapping[str, Tensor] | None, migration: float | None) -> None:
        """`migration` as in `smooth_scales`, None to leave everything as it is."""
        super().__init__(weights)
        self._maxima, self._migration = maxima, migration
        self.scales = cache(self._scales)

    def tensor(self, name: str) -> Tensor:
        """The tensor; see `Weights`."""
        tensor, found = self._weights.tensor(name), _TENSOR.fullmatch(name)
        if not found:
            return tensor
        layer, part, kind = int(found[1]), found[2], found[3]
        if part in _NORMS:
            scales = self.scales(layer, _NORMS[part])
            return tensor if scales is None else tensor.float() / scales
        scales = self.scales(layer, group_of(part)) if kind == "weight" else None
        return tensor if scales is None else tensor.float() * scales

    def input_scale(self, layer: int, group: str, dtype: torch.dtype, highest: int) -> Tensor:
        """The scale of a group's inputs, which maps the largest input to `highest`.

        Raises `ConfigError` without statistics of the group.
        """
        return input_scale(self._largest(layer, group), self.scales(layer, group), dtype, highest)

    def _scales(self, layer: int, group: str) -> Tensor | None:
        if self._migration is None or group not in _NORMS.values():
            return None
        names = [f"vision.layers.{layer}.{linear}.weight" for linear in LINEARS if group_of(linear) == group]
        matrices = (self._weights.tensor(name).t() for name in names)
        return smooth_scales(matrices, self._largest(layer, group), self._migration)

    def _largest(self, layer: int, group: str) -> Tensor:
        name = f"{layer:02}.{group}"
        if self._maxima is None or name not in self._maxima:
            raise ConfigError(
                f"vision {name}: 8-bit activations need statistics of the vision tower; run edge-sdk calibrate with "
                "this version and give its folder with --statistics"
            )
        return self._maxima[name]


def vision_file(
    weights: SmoothVision, formats: Mapping[str, Format], rounded: Mapping[str, Number], dtype: DType
) -> StoredFile:
    """The tower's file; `formats` names the quantised matrices, `rounded` those whose inputs are quantised too."""
    return StoredFile("vision.weights", _sources(weights, formats, rounded, dtype))


def _sources(
    weights: SmoothVision, formats: Mapping[str, Format], rounded: Mapping[str, Number], dtype: DType
) -> Iterator[Source]:
    begun: set[str] = set()
    for name in (name for name in weights.names() if name.startswith("vision.")):
        shape = tuple(int(length) for length in weights.spec(name).shape)[::-1]
        read = partial(_transposed, weights, name)
        if name in formats:
            yield Nearest(name, shape, formats[name], dtype, read)
        else:
            yield Plain(name, shape, dtype, read)
        found = _TENSOR.fullmatch(name)
        if name in rounded and found and (scale := input_scale_name(name)) not in begun:
            begun.add(scale)
            kind: torch.dtype = getattr(torch, dtype)
            highest = Format(bits=8, number=rounded[name]).highest
            read = partial(weights.input_scale, int(found[1]), group_of(found[2]), kind, highest)
            yield InputScale(scale, dtype, read)


def _transposed(weights: Weights, name: str) -> Tensor:
    return weights.tensor(name).t()
