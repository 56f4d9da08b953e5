"""Plan a quantised bundle: an export's plan with quantised decoder weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
import torch

from edge_sdk.bundle.manifest_language import Language, Number, Quantisation
from edge_sdk.bundle.proof import EVIDENCE, VISION, Choice, MatrixError, Sensitivity
from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter, Merged
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.export_recipe import BASE, Order
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.language_plan import LanguagePlan, Pixels
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.activations.few_vision import FewVision
from edge_sdk.export.quantise.activations.inputs import with_rounded_inputs
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.evidence import matrix_error
from edge_sdk.export.quantise.folding import FoldedAdapter
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.identity import identity_of
from edge_sdk.export.quantise.methods import Methods
from edge_sdk.export.quantise.probe_pictures import TowerChange, has_pictures
from edge_sdk.export.quantise.probing import Probe
from edge_sdk.export.quantise.recipe import QuantiseRecipe
from edge_sdk.export.quantise.recovery.recovered import RecoveredAdapter, RecoveredLora
from edge_sdk.export.quantise.restored_weights import RestoredWeights
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.export.quantise.statistics import Statistics, probe_file

# The stage with the outputs of a quantised tower for the calibration's probes.
SEEN_STAGE = f"{VISION}.probes"


class QuantisedPlan(LanguagePlan):
    """The parts of one order; `files` and `methods` have an entry for each of `decoders`.

    Adapters that stay beside a decoder with folded scales are folded too; `unfolded` are all adapters unchanged.
    `beside_exact` are folded but not recovered: with them and its exact weights a decoder gives the original results.
    """

    # A quantised head cannot serve as the embedding table.
    _HEAD_AS_TABLE = False

    def __init__(
        self,
        order: Order,
        checkpoint: Checkpoint,
        adapters: Mapping[str, Adapter],
        pixels: tuple[Pixels, Pixels],
        *,
        recipe: QuantiseRecipe,
        work: Path,
        statistics: Statistics | None = None,
        sensitivity: tuple[Sensitivity, ...] = (),
        choice: Choice | None = None,
        recovered: Mapping[str, RecoveredLora] | None = None,
        device: torch.device = CPU,
    ) -> None:
        """`work` is the folder of the stages, `statistics` come from a calibration, for a recipe that needs one.

        `sensitivity` and `choice` are what led to the recipe, for its evidence. Methods that use statistics compute on
        `device`. `recovered` are the LoRA matrices of adapters that were trained further beside the stored weights.
        Raises as `LanguagePlan`, and `ConfigError` for a recipe or statistics that do not fit the model.
        """
        super().__init__(order, checkpoint, adapters, pixels)
        text = checkpoint.config.text
        self.quantise, self.statistics, self.unfolded, self._work = recipe, statistics, adapters, work
        self.sensitivity, self.choice, self.device = sensitivity, choice, device
        self.formats = recipe.formats(text.layers)
        if statistics:
            given = partial(identity_of, self._model, Path(order.checkpoint), checkpoint, adapters)
            statistics.check(text, self.decoder_of, given)
        self.methods = {key: self._methods(key, work) for key in self.decoders}
        if BASE in self.decoders and self.methods[BASE].scaled:
            scales = self.methods[BASE].scales
            self.adapters = {name: FoldedAdapter(adapter, scales) for name, adapter in adapters.items()}
        self.recovered, self.beside_exact = recovered or {}, self.adapters
        if self.recovered:
            self.adapters = {
                name: RecoveredAdapter(each, self.recovered[name].file) for name, each in self.beside_exact.items()
            }
        self.rounded = recipe.rounded_inputs(text.layers)
        dtype = self.recipe.dtype
        self.files = {
            key: DecoderFiles(
                each.weights, dtype, self.formats, part_name(key), each.solver, self.rounded, each.input_scale
            )
            for key, each in self.methods.items()
        }
        self.few_vision = FewVision(checkpoint, recipe, statistics, dtype) if recipe.vision.format() else None

    def restored(self, key: str, folders: Mapping[str, Path]) -> Weights:
        """The model with the decoder from the files of `key`; `folders` maps each file's location to its folder."""
        return RestoredWeights(self.methods[key].weights, self.files[key].places, self.formats, folders, self.rounded)

    def with_vision(self, weights: Weights, folders: Mapping[str, Path]) -> Weights:
        """`weights` with the vision tower as stored; `weights` themselves if the recipe does not quantise the tower."""
        return self.few_vision.restored(weights, folders) if self.few_vision else weights

    def probes(self, key: str) -> list[Probe]:
        """The calibration's probes for the adapters of the decoder `key`, each with its adapter beside the weights."""
        if self.statistics is None:
            return []
        users = [name for name, decoder in self.decoder_of.items() if decoder == key]
        merged = key in self.adapters
        return [
            Probe(
                f"{number:02}.{name}",
                self.statistics.folder / probe_file(number, name),
                None if merged else self.beside_exact.get(name),
                self._work / SEEN_STAGE / probe_file(number, name) if self.sees_probes else None,
                self.adapters[name] if name in self.recovered else None,
            )
            for number in range(len(self.statistics.index.probes))
            for name in users
        ]

    @property
    def sees_probes(self) -> bool:
        """Whether a quantised tower sees the probes, for which the calibration must have kept their pictures."""
        return self.few_vision is not None and self.statistics is not None and has_pictures(self.statistics)

    def tower_change(self, folders: Mapping[str, Path]) -> TowerChange:
        """How the tower stored in `folders` changes the probes. Raises `ConfigError` without statistics."""
        if self.statistics is None:
            raise ConfigError("towers are compared on clips that a calibration has kept; give --statistics")
        tuned = {name: self.unfolded.get(name) for name in self.decoder_of}
        weights = {name: Merged(self.checkpoint, each) if each else self.checkpoint for name, each in tuned.items()}
        return TowerChange(self.statistics, self.component(), self.with_vision(self.checkpoint, folders), weights)

    def matrix_errors(self, restored: Mapping[str, Weights], tower: Weights) -> Iterator[MatrixError]:
        """The error of every quantised matrix: of decoders whose stored weights are `restored`, and of `tower`."""
        for key, methods in self.methods.items():
            for name, form in self.formats.items():
                yield matrix_error(key, name, form, methods.weights, restored[key], methods.gram(name))
        if self.few_vision:
            yield from self.few_vision.matrix_errors(tower)

    def component(self) -> Language:
        """See `LanguagePlan`."""
        linears, head, vision = self.quantise.linears, self.quantise.head, self.quantise.vision
        few = Quantisation(
            recipe=self.quantise.name,
            bits=linears.bits,
            block=linears.block,
            head_bits=head.bits,
            activation_bits=linears.activations,
            number=_number(linears.format()),
            vision_bits=vision.bits,
            vision_activation_bits=vision.activations,
            evidence=EVIDENCE,
            exception_bits=4 if self._others_of_4_bits() else msgspec.UNSET,
            **self._other_numbers(),
        )
        return msgspec.structs.replace(super().component(), quantisation=few)

    def _other_numbers(self) -> dict[str, Number]:
        """Number types of head, tower and exceptions, by their manifest keys, where they differ from the linears'."""
        usual = self.quantise.linears.format()
        others = [form for name, form in self.formats.items() if name != HEAD and form != usual]
        others.sort(key=lambda form: form.number != "fp8")  # fp8, which needs a newer GPU, stands for all exceptions
        parts = {"head": self.formats.get(HEAD), "vision": self.quantise.vision.format()}
        found = parts | {"exception": others[0] if others else None}
        kinds = {f"{part}_number": form.number for part, form in found.items() if form}
        return {name: kind for name, kind in kinds.items() if kind != _number(usual)}

    def _others_of_4_bits(self) -> bool:
        """Whether exceptions have 4 bits while most linears have more."""
        four = any(form.bits == 4 for name, form in self.formats.items() if name != HEAD)
        return four and self.quantise.linears.bits != 4

    def _methods(self, key: str, work: Path) -> Methods:
        weights = Merged(self.checkpoint, self.adapters[key]) if key in self.adapters else self.checkpoint
        dtype: torch.dtype = getattr(torch, self.recipe.dtype)
        folders = tuple(work / scales_stage(key, layer) for layer in range(self.checkpoint.config.text.layers))
        return Methods(weights, self.quantise, key, self.formats, dtype, folders, self.statistics, self.device)

    def _graphs(self) -> Iterator[tuple[str, ModelGraph]]:
        owners = {each.graph: key for key in self.decoders for each in self._decoder_set(key).graphs}
        towers = {graph for profile in super().component().profiles.values() for graph in profile.graphs.values()}
        for key, graph in super()._graphs():
            if key in owners:
                places = self.files[owners[key]].places
                yield key, with_rounded_inputs(with_stored(graph, places, self.formats), places, self.rounded)
            elif self.few_vision and key in towers:
                yield key, self.few_vision.graph(graph)
            else:
                yield key, graph


def _number(form: Format | None) -> Number:
    return form.number if form else "int"


def part_name(decoder: str) -> str:
    """The base name of a decoder's stages and files."""
    return "decoder" if decoder == BASE else f"decoder.{decoder}"


def scales_stage(decoder: str, layer: int) -> str:
    """Name of the stage that holds a layer's scales."""
    return f"{part_name(decoder)}.scales.{layer:02}"
