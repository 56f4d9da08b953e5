"""How a quantised matrix is stored: numbers of few bits, and scales that turn them back into weights.

Symmetric only: TensorRT does not accept zero points for INT4, and elsewhere they cost one subtraction per weight.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.bundle.manifest_language import Number
from edge_sdk.errors import ConfigError
from edge_sdk.export.layouts import Shape
from edge_sdk.types import DType, Value

Bits = Literal[4, 8]
"""Whole numbers, or E4M3 of 8 bits (Micikevicius et al., arXiv:2209.05433), which GPUs multiply from SM 89 on."""
BLOCKS = (16, 32, 64, 128)
FP8_HIGHEST = 448
_SCALE_BYTES: dict[DType, int] = {"float16": 2, "float32": 4}


class Format(Value, frozen=True, kw_only=True):
    """Numbers of `bits`; each `block` inputs of an output share a scale, all inputs where `block` is 0.

    ONNX `DequantizeLinear`: with a `block_size` along axis 0, or along axis 1 with a scale for each output.
    """

    bits: Bits
    block: int = 0
    number: Number = "int"

    def __post_init__(self) -> None:
        if self.number == "fp8" and (self.bits, self.block) != (8, 0):
            raise ConfigError(
                "fp8 numbers have 8 bits and a scale for each output: give bits = 8 and block = 0; found "
                f"bits = {self.bits} and block = {self.block}"
            )
        if self.block not in (0, *BLOCKS):
            raise ConfigError(
                f"block must be one of {', '.join(map(str, BLOCKS))}, or 0 for a scale per output; found {self.block}"
            )
        if self.bits == 4 and not self.block:
            raise ConfigError("4 bits need a block: compilers take INT4 with a scale per block alone; give block = 128")

    @property
    def lowest(self) -> int:
        """The lowest number."""
        return -FP8_HIGHEST if self.number == "fp8" else -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The highest number."""
        return FP8_HIGHEST if self.number == "fp8" else (1 << (self.bits - 1)) - 1

    def scale_shape(self, name: str, shape: Shape) -> Shape:
        """Shape of the scales of a matrix `[inputs, outputs]`. Raises `ConfigError` where blocks do not fill it."""
        inputs, outputs = shape
        if self.block and inputs % self.block:
            fits = [str(block) for block in BLOCKS if inputs % block == 0]
            do = f"give block = {' or '.join(fits)}" if fits else "keep it in 8 bits with block = 0, or as it is"
            raise ConfigError(f"{name}: {inputs} inputs are not a multiple of the block of {self.block}; {do}")
        return (inputs // self.block, outputs) if self.block else (outputs,)

    def size_bytes(self, shape: Shape, dtype: DType) -> int:
        """Bytes of a matrix `[inputs, outputs]` with its scales in `dtype`, without padding between tensors."""
        inputs, outputs = shape
        rows = inputs // self.block if self.block else 1
        return -(-inputs * outputs * self.bits // 8) + rows * outputs * _SCALE_BYTES[dtype]
