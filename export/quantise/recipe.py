"""Settings of a quantisation from a recipe's TOML file: the bits of each part, and the rounding methods.

A recipe names the export recipe that it builds on, so that one name orders a whole bundle for a target.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.errors import ConfigError
from edge_sdk.export.layouts import HEAD, LINEARS
from edge_sdk.export.quantise.decoder_files import linear_name
from edge_sdk.export.quantise.formats import Bits, Format
from edge_sdk.export.recipe_file import find_recipe
from edge_sdk.hardware.roofline import Precision
from edge_sdk.types import Value

RECIPES = Path(__file__).parent / "recipes"
_AS_IT_IS = 16
_PRECISIONS: dict[Number, Precision] = {"int": "w8a8", "fp8": "fp8"}
_FOUR_BITS: Precision = "w4a16"

Rounding = Literal["nearest", "gptq"]
Scaling = Literal["none", "awq", "smooth"]


class Storage(Value, frozen=True, kw_only=True):
    """Bits of a weight (16: the graphs' element type), and how many inputs share a scale; see `Format`.

    `activations` are the bits of the weight's inputs; `number` is the number type of weights and inputs of few bits.
    """

    bits: Literal[4, 8, 16] = 16
    block: int = 0
    activations: Literal[8, 16] = 16
    number: Number = "int"

    def __post_init__(self) -> None:
        self.format()
        if self.activations < _AS_IT_IS and (self.bits, self.block) != (8, 0):
            raise ConfigError(
                "8-bit activations are multiplied with 8-bit weights that have a scale for each output: give bits = 8 "
                f"and block = 0; found bits = {self.bits} and block = {self.block}"
            )

    def format(self) -> Format | None:
        """The format, None for a matrix that is not quantised. Raises `ConfigError`."""
        if self.bits == _AS_IT_IS:
            return None
        bits: Bits = 4 if self.bits == 4 else 8
        return Format(bits=bits, block=self.block, number=self.number)


class Otherwise(Value, frozen=True, kw_only=True):
    """Linears that are stored differently, in the named layers, or in all layers where none is named."""

    linears: tuple[str, ...]
    layers: tuple[int, ...] = ()
    storage: Storage

    def __post_init__(self) -> None:
        unknown = set(self.linears) - LINEARS.keys()
        if unknown or not self.linears:
            raise ConfigError(
                f"linears must be some of {', '.join(LINEARS)}; found {', '.join(sorted(unknown)) or '-'}"
            )


class Recover(Value, frozen=True, kw_only=True):
    """How LoRA inputs are trained further beside the quantised base; see `recovery.training`.

    The exact model answers at most `clips` clips, with at most `answer_tokens` tokens per answer. Each of `steps`
    trains on `batch` of them, drawn by `seed`, with AdamW at the learning rate `rate`.
    """

    clips: int = 400
    answer_tokens: int = 96
    steps: int = 100
    batch: int = 4
    rate: float = 1e-4
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("clips", "answer_tokens", "steps", "batch", "rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"recover: {name} must be above 0, found {getattr(self, name):g}")


class QuantiseRecipe(Value, frozen=True, kw_only=True):
    """Settings of a quantisation.

    `linears` is for the seven linears of every layer, `head` for the head, `vision` for the vision tower's linears.
    `exceptions` override `linears`; the last one that fits counts. `rounding`: to nearest, or by GPTQ, which computes
    only integers. `scaling`: AWQ scales up the weights of the inputs that matter before rounding (and divides the
    inputs); `smooth` moves the share `migration` of the activations' spread into the weights (SmoothQuant). GPTQ, both
    kinds of scaling and 8-bit activations need a calibration's statistics. `recover`: train LoRA inputs further beside
    the rounded weights; None leaves them unchanged.
    """

    name: str = ""
    export: str | None = None
    linears: Storage = Storage(bits=4, block=128)
    head: Storage = Storage(bits=8)
    exceptions: tuple[Otherwise, ...] = ()
    vision: Storage = Storage()
    rounding: Rounding = "nearest"
    scaling: Scaling = "none"
    migration: float = 0.5
    recover: Recover | None = None

    def __post_init__(self) -> None:
        if self.head.activations < _AS_IT_IS:
            raise ConfigError("head: its inputs are not quantised; leave activations out there")
        if not 0 <= self.migration <= 1:
            raise ConfigError(f"migration must be 0 to 1, found {self.migration:g}")
        stored = [self.linears, *(each.storage for each in self.exceptions)]
        if self.rounding == "gptq" and any(form.number == "fp8" for each in stored if (form := each.format())):
            raise ConfigError(
                'rounding = "gptq" computes whole numbers, found number = "fp8" in linears or exceptions; give '
                'rounding = "nearest" for fp8, or number = "int" for GPTQ'
            )

    @property
    def calibrated(self) -> bool:
        """Whether the recipe needs a calibration's statistics."""
        stored = [self.linears, self.vision, *(each.storage for each in self.exceptions)]
        rounded = any(storage.activations < _AS_IT_IS for storage in stored)
        return rounded or self.rounding != "nearest" or self.scaling != "none"

    def rounded_inputs(self, layers: int) -> dict[str, Number]:
        """The decoder's matrices whose inputs are rounded to 8 bits, and their number type."""
        stored = dict(self._storage(layers))
        return {name: storage.number for name, storage in stored.items() if storage.activations < _AS_IT_IS}

    @property
    def precisions(self) -> frozenset[Precision]:
        """What a target must support beyond floating point: products of 8-bit inputs, any E4M3 or 4-bit weight."""
        stored = [self.linears, self.head, self.vision, *(each.storage for each in self.exceptions)]
        few = [each for each in stored if each.bits < _AS_IT_IS]
        products = {_PRECISIONS[each.number] for each in few if each.activations < _AS_IT_IS or each.number == "fp8"}
        return frozenset(products | {_FOUR_BITS for each in few if each.bits == 4})

    def formats(self, layers: int) -> dict[str, Format]:
        """The format of each quantised matrix, for a decoder of `layers` layers.

        Raises `ConfigError` for an exception that names a layer the decoder does not have.
        """
        stored = dict(self._storage(layers))
        return {name: form for name, storage in stored.items() if (form := storage.format())}

    def _storage(self, layers: int) -> Iterator[tuple[str, Storage]]:
        for layer in range(layers):
            for linear in LINEARS:
                yield linear_name(layer, linear), self.linears
        yield HEAD, self.head
        for each in self.exceptions:
            if wrong := [layer for layer in each.layers if not 0 <= layer < layers]:
                raise ConfigError(f"exceptions: expected layers 0 to {layers - 1}, found layer {wrong[0]}")
            for layer in each.layers or range(layers):
                for linear in each.linears:
                    yield linear_name(layer, linear), each.storage


def load_quantise_recipe(name: str | Path) -> QuantiseRecipe:
    """Load the packaged recipe called `name`, or the file at a path. Raises `ConfigError`."""
    return find_recipe(name, "*.toml", RECIPES).read(QuantiseRecipe)
