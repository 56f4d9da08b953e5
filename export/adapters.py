"""Read CrashChat's adapters (LoRA on the decoder's linears, each with its own projector) and merge one.

Training leaves three things in a folder: `adapter_config.json`, the LoRA pairs, and the fully trained projector in
`non_lora_trainables.bin`. Some pairs are for the vision tower, which was frozen in training. Their B is checked to be
zero and they are dropped, so that one tower serves every adapter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.checkpoint import ChangedWeights, Weights
from edge_sdk.export.layouts import LINEARS, tensor_shapes
from edge_sdk.export.lora_config import CONFIG_FILE, LoraConfig
from edge_sdk.export.lora_pairs import find_pairs, find_projector
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.export.shards import Stored, Tensors, finite, open_file, weight_dtype

NON_LORA = "non_lora_trainables.bin"

_ADAPTED = re.compile(r"decoder\.layers\.(\d+)\.(\w+)\.weight")


class Adapter:
    """One adapter. `projector`: its four tensors under canonical names, or None where it uses the base's projector.

    `dropped`: number of LoRA pairs in the file that belong to the frozen vision tower.
    """

    def __init__(self, folder: Path, config: LoraConfig, lora: Tensors, projector: Tensors | None) -> None:
        """Raises `CheckpointError` naming a tensor that lacks its pair, has the wrong rank or adapts another module."""
        self.folder, self.config, self._lora = folder, config, lora
        for stored in (*lora.stored.values(), *(projector.stored.values() if projector else ())):
            weight_dtype(stored)
        self._pairs, self.dropped = find_pairs(lora)
        for a, b in self._pairs.values():
            _check_rank(lora.stored[a], 0, config)
            _check_rank(lora.stored[b], 1, config)
        self.projector: Mapping[str, Tensor] | None = None
        self._projector: Mapping[str, Stored] = {}
        if projector:
            names = find_projector(projector)
            self.projector = {name: projector.read(public) for name, public in names.items()}
            self._projector = {name: projector.stored[public] for name, public in names.items()}

    @classmethod
    def open(cls, folder: Path, *, base_projector: bool = False) -> Adapter:
        """Open the adapter in `folder`. `base_projector`: it was trained with the base's projector and has none.

        Raises `CheckpointError` naming the file and the setting or tensor, what was expected, what was found and what
        to do.
        """
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: expected an adapter's folder, but there is none; check the path")
        config = LoraConfig.read(folder)
        files = [folder / "adapter_model.safetensors", folder / "adapter_model.bin"]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise CheckpointError(f"{folder}: expected {files[0].name} or {files[1].name}; copy the whole folder")
        return cls(folder, config, _open(found), _open_projector(folder / NON_LORA, base_projector))

    @property
    def linears(self) -> tuple[str, ...]:
        """The decoder's linears that are adapted in at least one layer, in canonical order."""
        return tuple(linear for linear in LINEARS if any(linear == found for _, found in self._pairs))

    def lora(self, layer: int, linear: str) -> tuple[Tensor, Tensor, float] | None:
        """A `[rank, in]`, B `[out, rank]` and the scale for one linear of a layer, None where it is not adapted.

        The adapted linear is W + scale · B·A. The tensors keep the file's element type and are memory-mapped: do not
        write into them. Raises `CheckpointError` for NaN or infinity.
        """
        pair = self._pairs.get((layer, linear))
        return (self._lora.read(pair[0]), self._lora.read(pair[1]), self.config.scale) if pair else None

    def fit(self, config: ModelConfig) -> None:
        """Raise `CheckpointError` naming the first tensor that does not fit a model of `config`, or is missing."""
        shapes = tensor_shapes(config)
        for (layer, linear), (a, b) in self._pairs.items():
            shape = shapes.get(f"decoder.layers.{layer}.{linear}.weight")
            if shape is None:
                raise self._misfit(self._lora.stored[a], f"LoRA for {config.text.layers} decoder layers")
            for name, axis in ((a, 1), (b, 0)):
                if self._lora.stored[name].shape[axis] != shape[axis]:
                    raise self._misfit(self._lora.stored[name], f"{shape[axis]} along axis {axis}")
        for name, stored in self._projector.items():
            if stored.shape != shapes[name]:
                raise self._misfit(stored, str(list(shapes[name])))
        self._check_complete(config.text.layers)

    def _misfit(self, stored: Stored, expected: str) -> CheckpointError:
        named = f"; {CONFIG_FILE} names {self.config.base!r}" if self.config.base else ""
        return CheckpointError(
            f"{stored.where}: expected {expected} by the base's config.json, found {list(stored.shape)}; "
            f"give the base that the adapter was trained on{named}"
        )

    def _check_complete(self, layers: int) -> None:
        for layer in range(layers):
            for linear, public in LINEARS.items():
                targeted = self.config.targets_module(f"layers.{layer}.{public}")
                if targeted and (layer, linear) not in self._pairs:
                    raise CheckpointError(
                        f"{self._lora.origin}: expected LoRA for layers.{layer}.{public}, which adapter_config.json "
                        "targets, but it is not there; copy the file again"
                    )


class Merged(ChangedWeights):
    """A checkpoint with an adapter merged into it. Implements `Weights`, in the checkpoint's own element types."""

    def __init__(self, weights: Weights, adapter: Adapter) -> None:
        """Raises `CheckpointError` naming the adapter's tensor that does not fit `weights`."""
        adapter.fit(weights.config)
        super().__init__(weights)
        self._adapter = adapter

    def tensor(self, name: str) -> Tensor:
        """The tensor, W + scale · B·A summed in float32 and rounded once; see `Weights`.

        Raises `CheckpointError` also when the sum does not fit the element type.
        """
        dtype = getattr(torch, self.spec(name).dtype)
        if self._adapter.projector and name in self._adapter.projector:
            return finite(self._adapter.projector[name].to(dtype), self._where(name))
        adapted = _ADAPTED.fullmatch(name)
        pair = self._adapter.lora(int(adapted[1]), adapted[2]) if adapted else None
        weight = self._weights.tensor(name)
        if pair is None:
            return weight
        a, b, scale = pair
        total = (b.float() @ a.float()).mul_(scale).add_(weight)
        return finite(total.to(dtype), self._where(name))

    def _where(self, name: str) -> str:
        return f"{self._adapter.folder}, merged {name} as {self.spec(name).dtype}"


def _open(file: Path) -> Tensors:
    return Tensors(file, [open_file(file)])


def _open_projector(file: Path, base_projector: bool) -> Tensors | None:
    if base_projector and file.is_file():
        raise CheckpointError(
            f"{file}: expected no such file, since the base's projector was asked for; use the adapter's own"
        )
    if not base_projector and not file.is_file():
        raise CheckpointError(
            f"{file}: expected the projector that was trained with the adapter, but there is none; copy the whole "
            "folder, or ask for the base's projector if that is what it was trained with"
        )
    return None if base_projector else _open(file)


def _check_rank(stored: Stored, axis: int, config: LoraConfig) -> None:
    if len(stored.shape) != 2 or stored.shape[axis] != config.rank:
        raise CheckpointError(
            f"{stored.where}: expected rank {config.rank} along axis {axis} (r in adapter_config.json), found "
            f"{list(stored.shape)}; take both files from one folder"
        )
