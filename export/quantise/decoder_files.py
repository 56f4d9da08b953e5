"""A decoder's weights as files, one for each layer, so that a long run resumes after the last finished layer.

The weights outside the layers (positions, the last norm, the head) have a separate file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from torch import Tensor

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.decoder import text_rope
from edge_sdk.export.graphs.loading import source_name
from edge_sdk.export.graphs.weight_file import ROPE
from edge_sdk.export.layouts import EMBEDDING, HEAD, LINEARS, Shape
from edge_sdk.export.quantise.activations.inputs import InputScale, input_scale_name
from edge_sdk.export.quantise.folding import GROUPS
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.stored_file import Nearest, Numbers, Place, Plain, Solved, Source, StoredFile
from edge_sdk.types import DType

Solver = Callable[[str, Tensor, Format], Numbers]
"""Whole numbers and scales of a matrix `[inputs, outputs]`, by its name."""
InputScales = Callable[[int, str], Tensor]
"""The scale of the inputs of a layer's group; see `folding.GROUPS`."""


def linear_name(layer: int, linear: str) -> str:
    """Name of the weight of one of a layer's linears."""
    return f"decoder.layers.{layer}.{linear}.weight"


def matrix_names(layers: int) -> tuple[str, ...]:
    """Every matrix that may be quantised: the linears of all layers, and the head."""
    return (*(linear_name(layer, linear) for layer in range(layers) for linear in LINEARS), HEAD)


class DecoderFiles:
    """The files of one decoder. `formats` names the quantised matrices; the rest has the element type `dtype`.

    `stem` begins the files' names. `solver` computes the numbers of the layers' matrices; None rounds to nearest, as is
    always done for the head. `rounded` are matrices whose inputs are rounded to 8 bits, with `input_scales`.
    """

    def __init__(
        self,
        weights: Weights,
        dtype: DType,
        formats: Mapping[str, Format],
        stem: str = "decoder",
        solver: Solver | None = None,
        rounded: Collection[str] = (),
        input_scales: InputScales | None = None,
    ) -> None:
        """Raises `ConfigError` where the blocks of a format do not fill its matrix."""
        self.dtype, self.formats = dtype, dict(formats)
        self._weights, self._solver = weights, solver
        self._rounded, self._input_scales = rounded, input_scales
        names = [name for name in weights.names() if name.startswith("decoder.") and name not in (EMBEDDING, HEAD)]
        layers = range(weights.config.text.layers)
        self.layers = tuple(
            StoredFile(
                f"{stem}.layers.{layer:02}.weights",
                [*self._sources(_of_layer(names, layer)), *self._scales_of_inputs(layer)],
            )
            for layer in layers
        )
        rest = [name for name in names if not name.startswith("decoder.layers.")]
        self.ends = StoredFile(f"{stem}.weights", [*self._positions(), *self._sources([*rest, HEAD])])

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file; the index of a layer's file is the layer's number."""
        return (*self.layers, self.ends)

    @property
    def places(self) -> dict[str, Place]:
        """Where each tensor lies."""
        return {name: place for file in self.files for name, place in file.places.items()}

    def _sources(self, names: list[str]) -> Iterator[Source]:
        for name in names:
            source = source_name(self._weights, name)
            shape = self._shape(source)
            if name not in self.formats:
                yield Plain(name, shape, self.dtype, _reader(self._weights, source))
            elif self._solver is None or name == HEAD:
                yield Nearest(name, shape, self.formats[name], self.dtype, _reader(self._weights, source))
            else:
                yield Solved(name, shape, self.formats[name], self.dtype, self._solution(self._solver, name))

    def _scales_of_inputs(self, layer: int) -> Iterator[Source]:
        read = self._input_scales
        taken = {GROUPS[linear]: name for linear in LINEARS if (name := linear_name(layer, linear)) in self._rounded}
        if read is not None:
            for group, name in taken.items():
                yield InputScale(input_scale_name(name), self.dtype, partial(read, layer, group))

    def _solution(self, solver: Solver, name: str) -> Callable[[], Numbers]:
        return lambda: solver(name, self._weights.tensor(name).t(), self.formats[name])

    def _shape(self, source: str) -> Shape:
        return tuple(int(length) for length in self._weights.spec(source).shape)[::-1]

    def _positions(self) -> Iterator[Source]:
        text = self._weights.config.text
        shape = (text.max_positions, text.head_dim // 2)
        cos, sin = ROPE
        yield Plain(cos, shape, self.dtype, lambda: text_rope(text)[0])
        yield Plain(sin, shape, self.dtype, lambda: text_rope(text)[1])


def _of_layer(names: list[str], layer: int) -> list[str]:
    return [name for name in names if name.startswith(f"decoder.layers.{layer}.")]


def _reader(weights: Weights, source: str) -> Callable[[], Tensor]:
    return lambda: weights.tensor(source).t()
