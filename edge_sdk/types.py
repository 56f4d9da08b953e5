"""Values that pass between layers: frames, tensors, intervals. They are frozen, and check only their own shape."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

DType = Literal["float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]
Dialect = Literal["native", "decomposed"]
"""The operators a graph is limited to: opset 24 with attention and cache operators, or what TensorRT 10.3 parses."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the values that are read from and written to JSON: immutable, unknown keys refused.

    Values that another release may have written, such as events, ignore unknown keys and set
    `forbid_unknown_fields=False`. Every subclass repeats `frozen=True, kw_only=True`, because type checkers do not
    inherit them, and msgspec does not inherit `kw_only`.
    """


class TensorSpec(Value, frozen=True, kw_only=True):
    """Name, element type and shape of one graph input or output.

    A dimension is a fixed length or the name of a free one (`"streams"`); within one call, equal names have equal
    lengths.
    """

    name: str
    dtype: DType
    shape: tuple[Annotated[int, msgspec.Meta(ge=1)] | str, ...]


class StateSpec(Value, frozen=True, kw_only=True):
    """One tensor that a graph carries from call to call.

    `alias`: output `out` is the next call's input `in`. Without `index` each call replaces the whole tensor; with
    `index` the graph itself writes rows of `in` at `index` along `axis`, so both may share one buffer.
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


class Estimate(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A time with its central 80 % interval, in seconds since the source's first decoded frame."""

    t: float
    lo: float
    hi: float


class CaptureTime(Value, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """When a picture was taken, as well as this device can know it.

    `monotonic_s` is on the clock of `time.monotonic()`. `utc_s` is seconds since 1970-01-01 UTC, by the sender's clock
    for "sender", otherwise by this device's clock if a time service keeps it right; None if neither is available.
    `uncertainty_s` is half the width of the interval that holds the true time, None if unknown. `source` is where the
    time comes from: "arrival", when this device received it (transport and camera delay are not known); "driver", the
    capture driver's stamp; "sender", the camera's own clock by RTCP sender reports (RFC 3550 6.4.1); "host", the
    program that pushed it; "file", when it was read, which says nothing about when it was taken.
    """

    monotonic_s: float
    utc_s: float | None = None
    uncertainty_s: float | None = None
    source: Literal["arrival", "driver", "sender", "host", "file"]


class Frame(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One decoded picture.

    `pixels` is uint8, `[height, width]` for luma and `[height, width, 3]` for RGB; it belongs to the receiver.
    `time_s` is the presentation time in seconds since the source's first decoded frame. `sequence` counts the frames
    that this source has delivered, from 0. `captured_s` is `capture.monotonic_s`. `restarted`: a live source was
    rebuilt before this frame, or a long gap in a file was left out, so it need not continue from the frame before.
    `repeated`: a live source had no new frame when one was due, so this is its last frame again, one period later.
    """

    pixels: NDArray[np.uint8]
    time_s: float
    sequence: int
    captured_s: float
    source: str = ""
    capture: CaptureTime | None = None
    restarted: bool = False
    repeated: bool = False
