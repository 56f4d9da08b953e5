"""Collect activations layer by layer: each layer is read once for all sequences, with states on the disk in between.

Each layer is one stage; see `layer_runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.device import CPU
from edge_sdk.export.eager import empty_layer_cache, lora_pairs
from edge_sdk.export.graphs.decoder import DecoderLayer, TextStep, text_rope
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.language_stages import Inputs
from edge_sdk.export.quantise.layer_runs import run_layers
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import Sums, layer_file, widths
from edge_sdk.export.stage_store import OnBytes, Stage, StageStore
from edge_sdk.files import atomic_folder

# The linear whose inputs represent a group, whose linears share their inputs.
_FIRST = {"qkv": "q", "o": "o", "mlp": "gate", "down": "down"}


@dataclass(frozen=True)
class Source:
    """A sequence's file and the adapter that is applied beside the weights, if any."""

    path: Path
    adapter: Adapter | None = None


class Collection:
    """Statistics of one decoder: its `weights`, and the `sources` that it is fed. Layers compute on `device`."""

    def __init__(
        self,
        key: str,
        weights: Weights,
        sources: Mapping[str, Source],
        inputs: Inputs,
        device: torch.device = CPU,
    ) -> None:
        self._key, self._weights, self._sources, self._inputs = key, weights, sources, inputs
        self._device = device

    def run(self, store: StageStore, on_layer: OnBytes) -> list[Path]:
        """Make the missing stages; returns the folder of each layer's file. `on_layer` gets the number done."""
        return run_layers(store, self.stages(store), partial(self._states, store), on_layer)

    def stages(self, store: StageStore) -> list[Stage]:
        """The stages, one for each layer."""
        return [self._stage(store, layer) for layer in range(self._weights.config.text.layers)]

    def _stage(self, store: StageStore, layer: int) -> Stage:
        def make(draft: Path, on_bytes: OnBytes) -> None:
            sums = Sums(text, self._device)
            with atomic_folder(self._states(store, layer + 1), overwrite=True) as states:
                for name, found in self._computed(store, layer, sums):
                    save_file({"state": found.contiguous()}, states / f"{name}.safetensors")
            sums.save(draft / layer_file(self._key, layer))

        text = self._weights.config.text
        size = 4 * sum(width * (width + 2) for width in widths(text).values())
        return Stage(f"statistics.{self._key}.{layer:02}", self._inputs | {"layer": layer}, size, make)

    @torch.inference_mode()
    def _computed(self, store: StageStore, layer: int, sums: Sums) -> Iterator[tuple[str, Tensor]]:
        """Every sequence's states after the layer; the layer's inputs go into `sums`."""
        text, device = self._weights.config.text, self._device
        cos, sin = text_rope(text)
        rope = (cos.to(device), sin.to(device))
        module = load(self._weights, f"decoder.layers.{layer}.", partial(DecoderLayer, text)).to(device)
        with _watched(module, sums):
            for name, source in self._sources.items():
                sequence = Sequence.load(source.path).to(device)
                before = self._states(store, layer) / f"{name}.safetensors"
                state = load_file(before)["state"].to(device) if layer else sequence.embeds[None]
                step = TextStep.of(sequence.call([]).feeds, rope, "native")
                past = empty_layer_cache(text, len(sequence.embeds), device)
                yield name, module(state, step, past, lora_pairs(source.adapter, layer, device))[0].cpu()

    def _states(self, store: StageStore, layer: int) -> Path:
        return store.folder / f"states.{self._key}.{layer:02}"


@contextmanager
def _watched(module: nn.Module, sums: Sums) -> Iterator[None]:
    """Add the inputs of the module's linears to `sums` while the context is open."""

    def taker(group: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def take(linear: nn.Module, given: tuple[Tensor, ...]) -> None:
            sums.add(group, given[0].flatten(0, -2))

        return take

    hooks = [module.get_submodule(linear).register_forward_pre_hook(taker(group)) for group, linear in _FIRST.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
