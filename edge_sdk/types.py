"""Values that pass between floors: frames, tensors, intervals. Frozen, without behaviour beyond their own shape."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

DType = Literal["float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the values that are read from and written to JSON: immutable, unknown keys refused.

    Every value repeats `frozen=True, kw_only=True`: type checkers and msgspec do not hand them down.
    """


class TensorSpec(Value, frozen=True, kw_only=True):
    """Name, element type and shape of one graph input or output.

    A dimension is a fixed length or the name of a free one (`"streams"`); equal names mean equal lengths in one call.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


class StateSpec(Value, frozen=True, kw_only=True):
    """One tensor that a graph carries from call to call.

    `alias`: output `out` is the next call's input `in`. Without `index` the whole tensor is new at each call; with it
    the graph itself writes rows of `in` at `index` along `axis`, so that both may share one buffer.
    `append`: the rows of `out` are written into `in` along `axis`, beginning at the value of input `index`.
    """

    input: str = msgspec.field(name="in")
    output: str = msgspec.field(name="out")
    kind: Literal["alias", "append"]
    axis: int | None = None
    index: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "append" and (self.axis is None or self.index is None):
            raise ValueError(f"state {self.input!r} of kind 'append' needs `axis` and `index`")


class Estimate(Value, frozen=True, kw_only=True):
    """A time with its central 80 % interval, in seconds since the source's first decoded frame."""

    t: float
    lo: float
    hi: float


class Frame(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One decoded picture.

    `pixels` is uint8, `[height, width]` for luma and `[height, width, 3]` for RGB; it belongs to the receiver.
    `time_s` is the presentation time in seconds since the source's first decoded frame; `sequence` counts the frames
    delivered by this source from 0; `captured_s` is `time.monotonic()` at arrival.
    """

    pixels: NDArray[np.uint8]
    time_s: float
    sequence: int
    captured_s: float
    source: str = ""
