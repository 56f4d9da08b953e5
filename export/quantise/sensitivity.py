"""Measure on probes, layer by layer, what each layer and each of its linears costs when only it is quantised.

The KL divergence of the logits is measured for each layer alone. It is divided among the layer's linears by the squared
error that each makes at the layer's output, because KL is of second order in the change and the errors of different
matrices are nearly uncorrelated. States take 4·hidden bytes on the disk per token, probe and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import torch

from edge_sdk.bundle.proof import AnswerChange, LayerCost, LinearCost, Sensitivity
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.language_stages import Inputs
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.quantise.decoder_files import linear_name
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.layer_runs import run_layers
from edge_sdk.export.quantise.probing import HEAD_ALONE, TOGETHER, TOWER_ALONE, Probe, Probing, lone
from edge_sdk.export.stage_store import OnBytes, Stage, StageStore
from edge_sdk.files import write_bytes

_FILE = "errors.json"
_STAGE_BYTES = 10_000
Errors = dict[str, dict[int, float]]


class SensitivityRun:
    """A run for one decoder, with its `exact` and its `stored` weights, and the `probes` that both compute."""

    def __init__(
        self,
        key: str,
        exact: Weights,
        stored: Weights,
        probes: Sequence[Probe],
        formats: Mapping[str, Format],
        inputs: Inputs,
        device: torch.device = CPU,
    ) -> None:
        """Layers compute on `device`."""
        self._key, self._formats, self._inputs = key, formats, inputs
        self._layers = exact.config.text.layers
        self._probing = Probing(exact, stored, probes, alone=True, device=device)

    def run(self, store: StageStore, on_layer: OnBytes) -> Sensitivity:
        """Make the missing stages in `store`; returns the sensitivity."""
        states = self._states(store)
        stages = [self._stage(layer, states) for layer in range(self._layers)]
        stages[-1] = self._last(stages[-1], states)
        folders = run_layers(store, stages, states, on_layer)
        errors = [msgspec.json.decode((folder / _FILE).read_bytes(), type=Errors) for folder in folders]
        changes = msgspec.json.decode((folders[-1] / "changes.json").read_bytes(), type=dict[str, AnswerChange])
        layers = tuple(_cost(layer, changes[lone(layer)].mean_kl, each) for layer, each in enumerate(errors))
        return Sensitivity(
            decoder=self._key,
            layers=layers,
            head_kl=changes[HEAD_ALONE].mean_kl,
            tower_kl=changes[TOWER_ALONE].mean_kl if TOWER_ALONE in changes else 0.0,
            together=changes[TOGETHER],
        )

    def _states(self, store: StageStore) -> Callable[[int], Path]:
        return lambda layer: store.folder / f"probed.{self._key}.{layer:02}"

    def _stage(self, layer: int, states: Callable[[int], Path]) -> Stage:
        formats = {lin: f for lin in LINEARS if (f := self._formats.get(linear_name(layer, lin)))}

        def make(draft: Path, on_bytes: OnBytes) -> None:
            self._probing.layer(layer, states(layer), states(layer + 1))
            errors = self._probing.errors(layer, states(layer), states(layer + 1), formats)
            write_bytes(draft / _FILE, msgspec.json.encode(errors))

        name = f"sensitivity.{self._key}.{layer:02}"
        return Stage(name, self._inputs | {"layer": layer}, _STAGE_BYTES, make)

    def _last(self, stage: Stage, states: Callable[[int], Path]) -> Stage:
        """The last layer's stage, which also measures the logits, while the states after the layer exist."""

        def make(draft: Path, on_bytes: OnBytes) -> None:
            stage.make(draft, on_bytes)
            changes = self._probing.changes(states(self._layers))
            write_bytes(draft / "changes.json", msgspec.json.encode(changes))

        return Stage(stage.name, stage.inputs, stage.size_bytes, make)


def _cost(layer: int, kl: float, errors: Errors) -> LayerCost:
    squared = {linear: max(by_bits[min(by_bits)] ** 2, 1e-30) for linear, by_bits in errors.items()}
    whole = sum(squared.values())
    linears = {
        linear: LinearCost(kl=kl * squared[linear] / whole, errors=by_bits) for linear, by_bits in errors.items()
    }
    return LayerCost(layer=layer, kl=kl, linears=linears)
