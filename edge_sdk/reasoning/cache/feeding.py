"""The inputs of a decoder's calls, in arrays that stay in place.

Allocating a mask of ten thousand slots for each token in every call would be the largest cost of a step. A captured
graph also needs its inputs at fixed addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from edge_sdk.reasoning.cache.calls import Call, CallShape
from edge_sdk.reasoning.cache.slots import SlotTree
from edge_sdk.runtime import Array
from edge_sdk.tensors import allocate, numpy_dtype, shape_of
from edge_sdk.types import StateSpec, TensorSpec

PER_CALL = ("embeds", "position_ids", "mask", "write_index", "rows")
"""Decoder inputs that differ from call to call; the others are its state and LoRA matrices."""


def _lengths(shape: CallShape) -> Mapping[str, int]:
    return {"q": shape.prefill, "r": shape.rows}


def prefix_bytes(inputs: Sequence[TensorSpec], state: Sequence[StateSpec], shape: CallShape, *, copies: int = 1) -> int:
    """Return the bytes of one sequence in a decoder, from its graph's inputs and state: the cache and a call's inputs.

    `copies` is how many copies of the call's inputs are in memory.
    """
    kept = {entry.input for entry in state}
    sizes = {spec.name: _bytes(spec, shape) for spec in inputs if spec.name in kept.union(PER_CALL)}
    return sum(size * (1 if name in kept else copies) for name, size in sizes.items())


def standing_bytes(inputs: Sequence[TensorSpec], state: Sequence[StateSpec], shape: CallShape) -> int:
    """Return the bytes of a decoder's inputs that stay the same from call to call: LoRA matrices."""
    return sum(_bytes(spec, shape) for spec in standing_inputs(inputs, state))


def standing_inputs(inputs: Sequence[TensorSpec], state: Sequence[StateSpec]) -> list[TensorSpec]:
    """Return the inputs of a decoder that stay the same from call to call."""
    other = {entry.input for entry in state}.union(PER_CALL)
    return [spec for spec in inputs if spec.name not in other]


def _bytes(spec: TensorSpec, shape: CallShape) -> int:
    return prod(shape_of(spec, _lengths(shape))) * numpy_dtype(spec).itemsize


class Feeding:
    """Memory for the inputs of any call of `shape`; each call overwrites the inputs of the last."""

    def __init__(self, inputs: Sequence[TensorSpec], shape: CallShape) -> None:
        specs = {spec.name: spec for spec in inputs}
        self._shape = shape
        self._embeds, self._positions, self._mask, self._index, self._rows = (
            allocate(specs[name], _lengths(shape)) for name in PER_CALL
        )
        self.slots, self.hidden = int(self._mask.shape[3]), int(self._embeds.shape[2])
        self.dtype = self._embeds.dtype

    def fill(
        self, tree: SlotTree, first: int, call: Call, embeds: Array, rows: Sequence[int], slots: int | None = None
    ) -> dict[str, Array]:
        """Return the inputs of `call`, whose tokens `embeds [call.count, hidden]` take slots of `tree` from `first` on.

        `rows` are the tokens after which logits are wanted. Padding has the position of the last token and zero
        embeddings. `slots` is how many slots the call is given, by default all.
        """
        count, width, slots = call.count, call.width, slots or self.slots
        mask = self._mask.reshape(-1)[: width * slots].reshape(1, 1, width, slots)
        self._embeds[0, :count] = embeds
        self._embeds[0, count:width] = 0
        self._positions[0, :count] = tree.positions(first, count)
        self._positions[0, count:width] = self._positions[0, count - 1]
        tree.write_mask(first, count, mask[0, 0])
        self._index[0] = first
        wanted = self._shape.rows if self._shape.fixed else len(rows)
        self._rows[:wanted] = 0
        self._rows[: len(rows)] = np.asarray(rows, np.int64)
        return {
            "embeds": self._embeds[:, :width],
            "position_ids": self._positions[:, :width],
            "mask": mask,
            "write_index": self._index,
            "rows": self._rows[:wanted],
        }
