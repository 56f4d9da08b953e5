"""The native dialect: opset 24's operators for normalisation, RoPE, attention and the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edge_sdk.export.graphs.onnx_ops import Cache, Names, Operators
from edge_sdk.export.graphs.weight_file import ROPE, WeightFile
from edge_sdk.runtime import Array


class NativeOperators(Operators):
    """The model's steps as single operators."""

    def __init__(self, weights: WeightFile) -> None:
        super().__init__(weights, "native")
        self._bias = ""
        self._tables = ("", "")
        self._frame = (0, 0, 0)

    def gelu(self, x: str, *, tanh: bool) -> str:
        """See `Operators`."""
        return self.op("Gelu", x, approximate="tanh" if tanh else "none")

    def rms_norm(self, x: str, name: str, eps: float) -> str:
        """See `Operators`."""
        return self.op("RMSNormalization", x, self.weight(name), axis=-1, epsilon=eps, stash_type=1)

    def begin_frames(self, cos: Array, sin: Array, heads: int) -> None:
        """See `Operators`."""
        self._tables = (self.table("rope.cos", cos[None]), self.table("rope.sin", sin[None]))
        self._frame = (heads, cos.shape[0], 2 * cos.shape[1])

    def turn_frames(self, x: str) -> str:
        """See `Operators`. Frames become heads, because the operator needs one table for each item of a batch."""
        flat = self.reshape(x, 1, -1, *self._frame[1:])
        return self.reshape(self.op("RotaryEmbedding", flat, *self._tables), -1, *self._frame)

    def attend_frames(self, query: str, key: str, value: str, head_dim: int) -> str:
        """See `Operators`."""
        return self.op("Attention", query, key, value, scale=head_dim**-0.5)

    def begin_text(self, slots: int, head_dim: int) -> None:
        """See `Operators`. One additive mask: TensorRT-RTX refuses a boolean one shared by several layers."""
        lowest = torch.finfo(getattr(torch, self.dtype)).min
        self._bias = self.op("Where", "mask", self.number(0.0), self.number(lowest))

    def turn_text(self, x: str) -> str:
        """See `Operators`."""
        return self.op("RotaryEmbedding", x, *(self.weight(name) for name in ROPE), "position_ids")

    def attend_cache(self, query: str, new: Names, cache: Cache, sizes: Sequence[int]) -> str:
        """See `Operators`. The new rows are written into the cache, and the query attends the whole cache."""
        key, value = (
            self.op("TensorScatter", past, rows, "write_index", output=kept, axis=2, mode="linear")
            for past, rows, kept in zip(cache.past, new, cache.kept, strict=True)
        )
        return self.op("Attention", query, key, value, self._bias, scale=sizes[2] ** -0.5)
