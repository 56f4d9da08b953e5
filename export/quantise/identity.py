"""Identify the model that statistics belong to, by digests of its weights and adapters, wherever their files lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edge_sdk.errors import ConfigError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.layouts import LINEARS
from edge_sdk.export.shards import TensorFile, open_file, open_weights
from edge_sdk.types import Value

# Training changes a tensor's first values too, so the start of each tensor distinguishes models: 45 MB of a 7B.
_SAMPLE_VALUES = 32_768
_SHOWN = 12


class Identity(Value, frozen=True, kw_only=True):
    """A model's folder name, and the SHA-256 of its `weights` and of each of its `adapters` by name.

    `weights` is empty where the digest is unknown, as for statistics that do not record it.
    """

    model: str
    weights: str
    adapters: dict[str, str]

    @property
    def known(self) -> bool:
        """Whether this identity can be compared with another."""
        return bool(self.weights)

    def check(self, given: Identity, folder: Path) -> None:
        """Raise `ConfigError` unless `given` is the model of the statistics in `folder`, which is this one.

        Adapters that are not given are ignored. An identity that is not known passes.
        """
        if not (self.known and given.known):
            return
        if self.weights != given.weights:
            raise ConfigError(
                f"{folder}: these are statistics of {self.model} (weights {self.weights[:_SHOWN]}), not of "
                f"{given.model} (weights {given.weights[:_SHOWN]}); calibrate {given.model}, or give the checkpoint "
                "that was calibrated"
            )
        for name, digest in given.adapters.items():
            found = self.adapters.get(name)
            if found != digest:
                seen = f"one of {found[:_SHOWN]}" if found else f"none ({', '.join(self.adapters) or 'no adapters'})"
                raise ConfigError(
                    f"{folder}: these are statistics of {self.model} with another adapter {name}: seen was {seen}, "
                    f"given is {digest[:_SHOWN]}; calibrate {given.model} with this {name}, or give the adapter that "
                    "was calibrated"
                )


def identity_of(model: str, folder: Path, checkpoint: Checkpoint, adapters: Mapping[str, Adapter]) -> Identity:
    """The identity of the `checkpoint` in `folder` with its `adapters`, whatever layout and files it is stored in.

    Raises `CheckpointError` for an adapter whose values are not finite.
    """
    layers = checkpoint.config.text.layers
    return Identity(
        model=model,
        weights=_weights_digest(folder, checkpoint),
        adapters={name: _adapter_digest(adapter, layers) for name, adapter in adapters.items()},
    )


def _weights_digest(folder: Path, checkpoint: Checkpoint) -> str:
    stored, files, digest = open_weights(folder).stored, dict[Path, TensorFile](), hashlib.sha256()
    for name in checkpoint.names():
        each = stored[checkpoint.layout.public(name)]
        if each.file not in files:
            files[each.file] = open_file(each.file)
        _add(digest, name, files[each.file].read(each.name))
    return digest.hexdigest()


def _adapter_digest(adapter: Adapter, layers: int) -> str:
    digest = hashlib.sha256(f"{adapter.config.scale}\0".encode())
    for layer in range(layers):
        for linear in LINEARS:
            if pair := adapter.lora(layer, linear):
                _add(digest, f"{layer}.{linear}.a", pair[0])
                _add(digest, f"{layer}.{linear}.b", pair[1])
    for name, tensor in sorted((adapter.projector or {}).items()):
        _add(digest, name, tensor)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, tensor: Tensor) -> None:
    """Add a tensor to the digest: its name, type, number of values and first values."""
    values = tensor.reshape(-1)[:_SAMPLE_VALUES].contiguous().view(torch.uint8).numpy()
    digest.update(f"{name}\0{tensor.dtype}\0{tensor.numel()}\0".encode() + values.tobytes())
