"""Apply a recipe's methods to one decoder: the scales of each layer (AWQ, smooth), and GPTQ's numbers."""

from __future__ import annotations

import math
import re
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.quantise.activations.smooth import input_scale, smooth_scales
from edge_sdk.export.quantise.awq import awq_scales
from edge_sdk.export.quantise.decoder_files import Solver, linear_name
from edge_sdk.export.quantise.folding import FOLDED, GROUPS, FoldedWeights, folded_gram
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import gptq, output_error
from edge_sdk.export.quantise.recipe import QuantiseRecipe
from edge_sdk.export.quantise.rounding import restored, rounded, scales_of
from edge_sdk.export.quantise.statistics import Group, Statistics
from edge_sdk.export.quantise.stored_file import Numbers

SCALES = "scales.safetensors"
_NEEDED = "this recipe needs statistics of activations; give a folder that edge-sdk calibrate has written"
_LINEAR = re.compile(r"decoder\.layers\.(\d+)\.(\w+)\.weight")


class Methods:
    """The methods of `recipe` for the decoder `key` of `weights`, using `statistics` of its activations.

    `folders` are the stages' folders with each layer's scales; they need not exist until the scales are requested.
    """

    def __init__(
        self,
        weights: Weights,
        recipe: QuantiseRecipe,
        key: str,
        formats: dict[str, Format],
        dtype: torch.dtype,
        folders: tuple[Path, ...],
        statistics: Statistics | None,
        device: torch.device = CPU,
    ) -> None:
        """Scales and numbers are computed on `device` and returned on the CPU."""
        self._plain, self._recipe, self._key, self._formats = weights, recipe, key, formats
        self._dtype, self._folders, self._statistics = dtype, folders, statistics
        self._inputs = recipe.rounded_inputs(weights.config.text.layers)
        self._device = device
        self._held: tuple[int, dict[str, Tensor]] = (-1, {})

    @property
    def scaled(self) -> bool:
        """Whether weights are multiplied by scales before they are rounded."""
        return self._recipe.scaling != "none" and self._statistics is not None

    @cached_property
    def weights(self) -> Weights:
        """The weights to be rounded: the model's own, or with scales folded in."""
        return FoldedWeights(self._plain, self.scales) if self.scaled else self._plain

    @property
    def solver(self) -> Solver | None:
        """The function that computes the layers' numbers; None for rounding to nearest."""
        return self._solve if self._recipe.rounding == "gptq" and self._statistics is not None else None

    def scales(self, layer: int, group: str) -> Tensor | None:
        """Scales by which the weights of a group's inputs are multiplied in a layer; None where there are none."""
        if not self.scaled or group not in FOLDED:
            return None
        if self._held[0] != layer:
            self._held = layer, load_file(self._folders[layer] / SCALES)
        return self._held[1][group]

    def write_scales(self, layer: int, folder: Path) -> None:
        """Compute the scales of a layer and write them to `folder`. Raises `ConfigError` for bad statistics."""
        found = {}
        for group in FOLDED:
            seen = self._seen(layer, group)
            names = [linear_name(layer, linear) for linear, each in GROUPS.items() if each == group]
            matrices = {name: self._plain.tensor(name).to(self._device).t() for name in names}
            if self._recipe.scaling != "smooth":
                found[group] = awq_scales(matrices, seen.gram, seen.magnitude, self._formats, self._dtype)
            elif self._inputs.keys() & matrices.keys():
                found[group] = smooth_scales(matrices.values(), seen.largest, self._recipe.migration)
            else:
                # Inputs that stay float gain nothing from smoothing, which would only make weights harder to round.
                found[group] = torch.ones(len(seen.largest), device=CPU)
        save_file({group: scales.cpu() for group, scales in found.items()}, folder / SCALES)

    def input_scale(self, layer: int, group: str) -> Tensor:
        """The single scale for a group's 8-bit inputs. Raises `ConfigError` without statistics."""
        names = [linear_name(layer, linear) for linear, each in GROUPS.items() if each == group]
        (highest, *others) = {
            Format(bits=8, number=kind).highest for name, kind in self._inputs.items() if name in names
        }
        if others:
            raise ConfigError(f"layer {layer}: linears that share inputs need the same number for them, int or fp8")
        largest = self._seen(layer, group).largest.cpu()
        return input_scale(largest, self.scales(layer, group), self._dtype, highest)

    def gram(self, name: str) -> Tensor | None:
        """XᵀX of a matrix's inputs, after scaling, on the device; None where its inputs were not recorded."""
        found = _LINEAR.fullmatch(name)
        if self._statistics is None or found is None:
            return None
        layer, group = int(found[1]), GROUPS[found[2]]
        scales = self.scales(layer, group)
        return folded_gram(self._seen(layer, group).gram, None if scales is None else scales.to(self._device))

    def _solve(self, name: str, matrix: Tensor, form: Format) -> Numbers:
        """Round by GPTQ, unless rounding to nearest costs no more on the calibration set."""
        gram = self.gram(name)
        if gram is None:
            raise ConfigError(f"{name}: {_NEEDED}")
        matrix = matrix.to(self._device)
        nearest = scales_of(matrix, form, self._dtype)
        tried = ((rounded(matrix, nearest, form), nearest), gptq(matrix, gram, form, self._dtype, ordered=True))

        def cost(each: Numbers) -> float:
            found = output_error(restored(each[0], each[1], form) - matrix.float(), gram)
            return found if math.isfinite(found) else math.inf  # NaN compares false with everything, so it would win

        numbers, scales = min(tried, key=cost)
        return numbers.cpu(), scales.cpu()

    def _seen(self, layer: int, group: str) -> Group:
        if self._statistics is None:
            raise ConfigError(_NEEDED)
        return Group(*(each.to(self._device) for each in self._statistics.group(self._key, layer, group)))
