"""A VideoLLaMA3 checkpoint under canonical tensor names, whatever its layout and file format.

Opening reads only headers and compares every name and shape with the configuration, so that a wrong folder is
refused within a second and not after an hour. Values are checked when a tensor is read.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.layouts import EMBEDDING, HEAD, Layout, Shape, recognise, some, stored_shape, tensor_shapes
from edge_sdk.export.model_config import ModelConfig, TextConfig
from edge_sdk.export.shards import Stored, Tensors, open_weights, weight_dtype
from edge_sdk.types import TensorSpec


class Weights(Protocol):
    """A model's tensors under canonical names, read one at a time."""

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants."""

    def names(self) -> tuple[str, ...]:
        """Every tensor, in the order in which data flows through the model."""

    def spec(self, name: str) -> TensorSpec:
        """Shape and element type, without reading the tensor. Raises `KeyError` for a name not in `names()`."""

    def tensor(self, name: str) -> Tensor:
        """The tensor, contiguous. It may be memory-mapped from a file: do not write into it.

        Raises `CheckpointError` naming file and tensor when a value is NaN or infinite, and `KeyError` for a name not
        in `names()`.
        """


class ChangedWeights:
    """Base class for `Weights` that keep the names, shapes and types of other `Weights` and change the values."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants."""
        return self._weights.config

    def names(self) -> tuple[str, ...]:
        """Every tensor, in the order in which data flows through the model."""
        return self._weights.names()

    def spec(self, name: str) -> TensorSpec:
        """Shape and element type of the original tensor; see `Weights`."""
        return self._weights.spec(name)


class Checkpoint:
    """The tensors of a checkpoint's folder. Implements `Weights`."""

    def __init__(self, config: ModelConfig, layout: Layout, tensors: Tensors) -> None:
        """Raises `CheckpointError` unless the names, shapes and types of `tensors` are those of `config`."""
        self.config, self.layout = config, layout
        self._tensors = tensors
        self._public = {name: layout.public(name) for name in tensor_shapes(config)}
        self._spare_head = tensors.stored.get(layout.public(HEAD)) if config.text.tied else None
        self._check_names(set(self._public.values()))
        self._specs = {name: self._spec(name, shape) for name, shape in tensor_shapes(config).items()}
        if self._spare_head:
            _check_shape(self._spare_head, (config.text.vocab, config.text.hidden), config.text)
            weight_dtype(self._spare_head)

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open `folder`: `config.json` beside safetensors or `pytorch_model.bin`, in one file or in shards.

        Raises `CheckpointError` naming the file and the tensor, what was expected, what was found and what to do.
        """
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: expected a checkpoint's folder, but there is none; check the path")
        tensors = open_weights(folder)
        layout = recognise(tensors.stored.keys(), str(tensors.origin))
        return cls(ModelConfig.read(folder), layout, tensors)

    def names(self) -> tuple[str, ...]:
        """Every tensor, in the order in which data flows through the model."""
        return tuple(self._specs)

    def spec(self, name: str) -> TensorSpec:
        """Shape and element type; see `Weights`."""
        return self._specs[name]

    def tensor(self, name: str) -> Tensor:
        """The tensor, mapped from its file; see `Weights`."""
        shape = cast(Shape, self._specs[name].shape)
        found = self._tensors.read(self._public[name])
        if name == EMBEDDING and self._spare_head:
            self._check_spare_head(found, self._spare_head)
        return found.reshape(shape).contiguous()

    def _check_names(self, expected: Set[str]) -> None:
        # Older code stored RoPE's frequencies, which follow from the configuration.
        found = {name for name in self._tensors.stored if not name.endswith(".inv_freq")}
        where = f"{self._tensors.origin} ({self.layout.name} layout)"
        if missing := expected - found:
            hint = "copy or download the whole folder again"
            if missing == {self.layout.public(HEAD)}:
                hint = "if the head is the embedding, set tie_word_embeddings to true in config.json"
            raise CheckpointError(f"{where}: expected by config.json, but not there: {some(missing)}; {hint}")
        if unexpected := found - expected - ({self._spare_head.name} if self._spare_head else set()):
            listed = some([self._tensors.stored[name].where for name in unexpected])
            raise CheckpointError(f"{where}: not expected by config.json: {listed}; take both from one folder")

    def _spec(self, name: str, shape: Shape) -> TensorSpec:
        stored = self._tensors.stored[self._public[name]]
        _check_shape(stored, stored_shape(name, shape, self.config.vision), self.config.text)
        return TensorSpec(name=name, dtype=weight_dtype(stored), shape=shape)

    def _check_spare_head(self, embedding: Tensor, head: Stored) -> None:
        """A tied model's file may hold the head as well; its values must then equal the embedding's."""
        if not torch.equal(embedding, self._tensors.read(head.name).to(embedding.dtype)):
            raise CheckpointError(
                f"{head.where}: expected the values of {self._public[EMBEDDING]}, since config.json ties the two "
                "(tie_word_embeddings), found others; set tie_word_embeddings to false if the head was trained apart"
            )


def _check_shape(stored: Stored, expected: Shape, text: TextConfig) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.where}: expected {list(expected)} by config.json (hidden_size {text.hidden}, vocab_size "
            f"{text.vocab}), found {list(stored.shape)}; take both from one folder"
        )
