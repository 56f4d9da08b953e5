"""The decomposed dialect: the same steps from operators of opset 20 and earlier.

The graph only reads the cache. Scores against its slots and against the call's own tokens are computed separately and
joined before the softmax. The new rows are outputs, which a runtime writes to their slots. Queries that share a key
head are rows of one product, so that keys are never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from edge_sdk.export.graphs.onnx_ops import Cache, Names, Operators
from edge_sdk.export.graphs.weight_file import ROPE, WeightFile
from edge_sdk.runtime import Array

# GELU's tanh approximation: Hendrycks and Gimpel, "Gaussian Error Linear Units" (arXiv:1606.08415), section 2.
_CUBIC = 0.044715
_END = 2**63 - 1


class PlainOperators(Operators):
    """The model's steps from plain arithmetic."""

    def __init__(self, weights: WeightFile) -> None:
        super().__init__(weights, "decomposed")
        self._tables = ("", "")
        self._biases = ("", "")
        self._half = 0
        self._slots = 0

    def gelu(self, x: str, *, tanh: bool) -> str:
        """See `Operators`."""
        if tanh:
            cubic = self._scaled(self.op("Mul", x, x), _CUBIC)
            inner = self.op("Mul", self._scaled(x, math.sqrt(2 / math.pi)), self._plus(cubic, 1.0))
            share = self.op("Tanh", inner)
        else:
            share = self.op("Erf", self._scaled(x, math.sqrt(0.5)))
        return self.op("Mul", self._scaled(x, 0.5), self._plus(share, 1.0))

    def rms_norm(self, x: str, name: str, eps: float) -> str:
        """See `Operators`."""
        half = self.dtype != "float32"
        wide = self.cast(x, "float32") if half else x
        mean = self.op("ReduceMean", self.op("Mul", wide, wide), self.integers(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.number(eps, "float32")))
        scaled = self.op("Div", wide, root)
        return self.op("Mul", self.cast(scaled, self.dtype) if half else scaled, self.weight(name))

    def begin_frames(self, cos: Array, sin: Array, heads: int) -> None:
        """See `Operators`."""
        self._tables = (self.table("rope.cos", cos[None, None]), self.table("rope.sin", sin[None, None]))
        self._half = cos.shape[1]

    def turn_frames(self, x: str) -> str:
        """See `Operators`."""
        return self._turn(x)

    def attend_frames(self, query: str, key: str, value: str, head_dim: int) -> str:
        """See `Operators`."""
        scores = self._scores(self._scaled(query, head_dim**-0.5), key)
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), value)

    def begin_text(self, slots: int, head_dim: int) -> None:
        """See `Operators`."""
        self._slots, self._half = slots, head_dim // 2
        cos, sin = (self.op("Gather", self.weight(name), "position_ids", axis=0) for name in ROPE)
        self._tables = (self.op("Unsqueeze", cos, self.integers(1)), self.op("Unsqueeze", sin, self.integers(1)))
        lowest = self.number(torch.finfo(getattr(torch, self.dtype)).min)
        bias = self.op("Where", "mask", self.number(0.0), lowest)
        count = self.op("Gather", self.op("Shape", "position_ids"), self.integer(1), axis=0)
        own = self.op("Add", "write_index", self.op("Range", self.integer(0), count, self.integer(1)))
        # Mask the cached values in this call's slots: the new rows replace them.
        dead = self.op("Where", self._is_own(count), lowest, bias)
        self._biases = (dead, self.op("Gather", bias, own, axis=3))

    def turn_text(self, x: str) -> str:
        """See `Operators`."""
        return self._turn(x)

    def attend_cache(self, query: str, new: Names, cache: Cache, sizes: Sequence[int]) -> str:
        """See `Operators`. The new rows become the graph's outputs."""
        heads, kv_heads, head_dim = sizes
        for rows, kept in zip(new, cache.kept, strict=True):
            self.op("Identity", rows, output=kept)
        shared = self.reshape(self._scaled(query, head_dim**-0.5), 1, kv_heads, -1, head_dim)
        scores = [
            self.op("Add", self.reshape(self._scores(shared, key), 1, heads, -1, 0), bias)
            for key, bias in zip((cache.past[0], new[0]), self._biases, strict=True)
        ]
        shares = self.op("Softmax", self.op("Concat", *scores, axis=-1), axis=-1)
        parts = ((0, self._slots, cache.past[1]), (self._slots, _END, new[1]))
        found = [
            self.op("MatMul", self.reshape(self._slice(shares, start, end), 1, kv_heads, -1, 0), value)
            for start, end, value in parts
        ]
        return self.reshape(self.op("Add", *found), 1, heads, -1, head_dim)

    def _is_own(self, count: str) -> str:
        """Which slots are written by this call, `[slots]`."""
        slots = self.op("Range", self.integer(0), self.integer(self._slots), self.integer(1))
        begun = self.op("GreaterOrEqual", slots, "write_index")
        return self.op("And", begun, self.op("Less", slots, self.op("Add", "write_index", count)))

    def _turn(self, x: str) -> str:
        cos, sin = self._tables
        a, b = self.ops("Split", x, self.integers(self._half, self._half), outputs=("", ""), axis=-1)
        real = self.op("Sub", self.op("Mul", a, cos), self.op("Mul", b, sin))
        imaginary = self.op("Add", self.op("Mul", b, cos), self.op("Mul", a, sin))
        return self.op("Concat", real, imaginary, axis=-1)

    def _scores(self, query: str, key: str) -> str:
        return self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))

    def _slice(self, x: str, start: int, end: int) -> str:
        """Slice along the last axis."""
        return self.op("Slice", x, self.integers(start), self.integers(end), self.integers(-1))

    def _scaled(self, x: str, factor: float) -> str:
        return self.op("Mul", x, self.number(factor))

    def _plus(self, x: str, term: float) -> str:
        return self.op("Add", x, self.number(term))
