"""A model with the dequantised weights of its files: the weights that the graphs compute with, as a checkpoint.

References are computed from it, so that a compiler's fault in a graph is not mistaken for the effect of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.loading import RoundedInputs, source_name
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.activations.inputs import input_scale_name
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rounding import restored, rounded, unpacked
from edge_sdk.export.quantise.stored_file import Place, StoredType, scale_name
from edge_sdk.types import TensorSpec

_FLOATS: dict[StoredType, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
_PIECE_BYTES = 1 << 27


class RestoredWeights:
    """`weights` with the tensors of some files in place of its own. Implements `Weights` and `RoundedInputs`.

    `folders` maps each file's location to its folder. A head in one of the files is a separate tensor here, even where
    the model ties it to the embedding table. Matrices have the element type of their scales, like the output of
    `DequantizeLinear` in a graph.
    """

    def __init__(
        self,
        weights: Weights,
        places: Mapping[str, Place],
        formats: Mapping[str, Format],
        folders: Mapping[str, Path],
        inputs: Mapping[str, Number] | None = None,
    ) -> None:
        """`inputs` are the matrices whose inputs are rounded to 8 bits, with their number type."""
        self._weights, self._places, self._formats, self._folders = weights, places, formats, folders
        self._inputs = inputs or {}
        text = msgspec.structs.replace(weights.config.text, tied=weights.config.text.tied and HEAD not in places)
        self.config = msgspec.structs.replace(weights.config, text=text)

    def names(self) -> tuple[str, ...]:
        """Every tensor, in the order in which data flows through the model."""
        names = self._weights.names()
        return names if HEAD in names or HEAD not in self._places else (*names, HEAD)

    def spec(self, name: str) -> TensorSpec:
        """Shape and element type of the original tensor; see `Weights`."""
        return self._weights.spec(source_name(self._weights, name))

    def tensor(self, name: str) -> Tensor:
        """The tensor; see `Weights`."""
        if name not in self._places:
            return self._weights.tensor(name)
        if name in self._formats:
            return self._matrix(name)
        return self._plain(name).t().contiguous()

    def input_rounding(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """See `RoundedInputs`."""
        if name in self._inputs:
            scale, form = self._plain(input_scale_name(name)), Format(bits=8, number=self._inputs[name])
            return lambda x: restored(rounded(x.flatten(0, -2), scale, form), scale, form).reshape(x.shape)
        return self._weights.input_rounding(name) if isinstance(self._weights, RoundedInputs) else None

    def _matrix(self, name: str) -> Tensor:
        form, (inputs, outputs) = self._formats[name], self._places[name].part.shape
        scales = self._plain(scale_name(name))
        found = torch.empty(outputs, inputs, dtype=scales.dtype)
        step = form.block or 2
        rows = max(1, _PIECE_BYTES // (4 * outputs * step)) * step
        for start in range(0, inputs, rows):
            stop = min(start + rows, inputs)
            stored = self._bytes(name, start * outputs * form.bits // 8, -(-stop * outputs * form.bits // 8))
            numbers = unpacked(stored, form, (stop - start, outputs))
            block = scales[start // form.block : stop // form.block] if form.block else scales
            found[:, start:stop] = restored(numbers, block, form).t()
        return found

    def _plain(self, name: str) -> Tensor:
        part = self._places[name].part
        return self._bytes(name, 0, part.size_bytes).view(_FLOATS[part.type]).reshape(part.shape)

    def _bytes(self, name: str, start: int, stop: int) -> Tensor:
        place = self._places[name]
        file = self._folders[place.location] / place.location
        return torch.from_numpy(np.fromfile(file, np.uint8, stop - start, offset=place.offset + start))
