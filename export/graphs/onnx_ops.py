"""The model's larger steps as ONNX nodes: those that both dialects share, and those that each dialect must define.

SiLU is built from Sigmoid and Mul, because `Swish` is newer than all other operators used here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.export.graphs.onnx_graph import GraphBuilder
from edge_sdk.runtime import Array

Names = tuple[str, str]


@dataclass(frozen=True)
class Cache:
    """The cache of one layer: names of the past keys and values, and of the outputs that continue them."""

    past: Names
    kept: Names


class Operators(GraphBuilder, ABC):
    """Steps of the model, named by what they compute; every argument and result is the name of a value."""

    @abstractmethod
    def gelu(self, x: str, *, tanh: bool) -> str:
        """Exact GELU (error function), or its tanh approximation."""

    @abstractmethod
    def rms_norm(self, x: str, name: str, eps: float) -> str:
        """x / rms(x) over the last axis, computed in float32, times the weight `name`."""

    @abstractmethod
    def begin_frames(self, cos: Array, sin: Array, heads: int) -> None:
        """Set RoPE's tables `[patches, head_dim / 2]`, which every frame uses, and the number of heads."""

    @abstractmethod
    def turn_frames(self, x: str) -> str:
        """RoPE on `x [frames, heads, patches, head_dim]`."""

    @abstractmethod
    def attend_frames(self, query: str, key: str, value: str, head_dim: int) -> str:
        """Attention within each frame, `[frames, heads, patches, head_dim]` in and out."""

    @abstractmethod
    def begin_text(self, slots: int, head_dim: int) -> None:
        """Build what all decoder layers share, from the inputs `position_ids`, `mask` and `write_index`."""

    @abstractmethod
    def turn_text(self, x: str) -> str:
        """RoPE on `x [1, heads, q, head_dim]`."""

    @abstractmethod
    def attend_cache(self, query: str, new: Names, cache: Cache, sizes: Sequence[int]) -> str:
        """Attention of `query [1, heads, q, head_dim]` to the cache and to `new`; also adds the cache outputs.

        `sizes` are the number of heads, the number of key/value heads, and head_dim.
        """

    def linear(self, x: str, name: str, *, bias: bool = True, lora: Names | None = None) -> str:
        """x·W, plus the bias if `bias`, plus x·a·b of the LoRA inputs if `lora` names them."""
        y = self.op("MatMul", x, self.weight(f"{name}.weight"))
        if bias:
            y = self.op("Add", y, self.weight(f"{name}.bias"))
        if lora:
            y = self.op("Add", y, self.op("MatMul", self.op("MatMul", x, lora[0]), lora[1]))
        return y

    def layer_norm(self, x: str, name: str, eps: float) -> str:
        """Layer normalisation over the last axis."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def silu(self, x: str) -> str:
        """x · sigmoid(x)."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def heads(self, x: str, count: int, head_dim: int) -> str:
        """`[b, n, count * head_dim]` to `[b, count, n, head_dim]`."""
        return self.op("Transpose", self.reshape(x, 0, 0, count, head_dim), perm=[0, 2, 1, 3])

    def joined_heads(self, x: str, width: int) -> str:
        """`[b, heads, n, head_dim]` to `[b, n, width]`."""
        return self.reshape(self.op("Transpose", x, perm=[0, 2, 1, 3]), 0, 0, width)

    def reshape(self, x: str, *shape: int) -> str:
        """`x` in another shape; 0 keeps a dimension's length, and one length may be -1."""
        return self.op("Reshape", x, self.integers(*shape))
