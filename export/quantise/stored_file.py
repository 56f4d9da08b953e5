"""A weight file whose matrices may be quantised: plan where each tensor lies, and write it piece by piece.

Like `graphs.weight_file` it is planned from names and shapes alone, so that graphs of every dialect and any number of
slots are made without reading a weight, and all of them refer to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from edge_sdk.export.layouts import Shape
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.rounding import packed, rounded, scales_of
from edge_sdk.export.shards import finite
from edge_sdk.types import DType

StoredType = Literal["float32", "float16", "int8", "int4", "fp8"]
BITS: dict[StoredType, int] = {"float32": 32, "float16": 16, "int8": 8, "int4": 4, "fp8": 8}
# Page size, so that a runtime can memory-map each tensor separately (ONNX, ExternalData.md).
_ALIGNMENT = 4096
_PIECE_BYTES = 1 << 28
# Bytes of float32 rounded at a time: few enough that the allocator reuses the same memory.
_ROUNDED_BYTES = 1 << 24

Numbers = tuple[Tensor, Tensor]
"""Whole numbers int8 `[inputs, outputs]` of a matrix, and their scales."""


def scale_name(name: str) -> str:
    """Name of the scales of the matrix `name`."""
    return f"{name}.scale"


@dataclass(frozen=True)
class Part:
    """One tensor of a file, by its name in the graphs."""

    name: str
    type: StoredType
    shape: Shape

    @property
    def size_bytes(self) -> int:
        """The tensor's length in the file."""
        return -(-torch.Size(self.shape).numel() * BITS[self.type] // 8)


class Source(Protocol):
    """A source of some of a file's tensors."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The tensors, in the order in which they lie."""

    def pieces(self) -> Iterator[tuple[str, Tensor]]:
        """Yield a tensor's name and its next bytes, uint8, until all tensors are complete."""


class Plain:
    """A tensor in the graph's element type. `read` returns it in the shape that it has in the graph."""

    def __init__(self, name: str, shape: Shape, dtype: DType, read: Callable[[], Tensor]) -> None:
        self._name, self._read, self._dtype = name, read, dtype
        kind: StoredType = "float16" if dtype == "float16" else "float32"
        self.parts = (Part(name, kind, shape),)

    def pieces(self) -> Iterator[tuple[str, Tensor]]:
        """See `Source`. Raises `CheckpointError` for a value that is not finite, or not in the element type."""
        tensor, dtype = self._read(), getattr(torch, self._dtype)
        rows = max(1, _PIECE_BYTES * len(tensor) // (tensor.numel() * dtype.itemsize))
        for block in tensor.split(rows):
            stored = finite(block.to(dtype), f"{self._name} as {self._dtype}").contiguous()
            yield self._name, stored.view(torch.uint8).flatten()


class Nearest:
    """A matrix `[inputs, outputs]` with every weight rounded to nearest; its numbers are never in memory whole."""

    def __init__(self, name: str, shape: Shape, form: Format, dtype: DType, read: Callable[[], Tensor]) -> None:
        self._name, self._form, self._dtype, self._read = name, form, dtype, read
        self.parts = matrix_parts(name, shape, form, dtype)

    def pieces(self) -> Iterator[tuple[str, Tensor]]:
        """See `Source`. Raises `CheckpointError` for a scale that does not fit its element type."""
        matrix, form = self._read(), self._form
        scales = scales_of(matrix, form, getattr(torch, self._dtype))
        yield scale_name(self._name), scales.contiguous().view(torch.uint8).flatten()
        step = form.block or 2  # an even number of rows, so that no byte is split between pieces
        rows = max(1, _ROUNDED_BYTES // (4 * matrix.shape[1] * step)) * step
        for start in range(0, len(matrix), rows):
            block = scales[start // form.block : (start + rows) // form.block] if form.block else scales
            yield self._name, packed(rounded(matrix[start : start + rows], block, form), form)


class Solved:
    """A matrix `[inputs, outputs]` whose numbers a method computes all at once."""

    def __init__(self, name: str, shape: Shape, form: Format, dtype: DType, solve: Callable[[], Numbers]) -> None:
        self._name, self._form, self._solve = name, form, solve
        self.parts = matrix_parts(name, shape, form, dtype)

    def pieces(self) -> Iterator[tuple[str, Tensor]]:
        """See `Source`."""
        numbers, scales = self._solve()
        yield scale_name(self._name), scales.contiguous().view(torch.uint8).flatten()
        yield self._name, packed(numbers, self._form)


def matrix_parts(name: str, shape: Shape, form: Format, dtype: DType) -> tuple[Part, ...]:
    """Scales and numbers of a matrix. Raises `ConfigError` where the format's blocks do not fill the matrix."""
    kind: StoredType = "float16" if dtype == "float16" else "float32"
    number: StoredType = "fp8" if form.number == "fp8" else "int4" if form.bits == 4 else "int8"
    return Part(scale_name(name), kind, form.scale_shape(name, shape)), Part(name, number, shape)


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: its file beside the graphs, and the byte where it begins there."""

    part: Part
    location: str
    offset: int


class StoredFile:
    """The plan of one file; `location` is its name beside the graphs."""

    def __init__(self, location: str, sources: Iterable[Source]) -> None:
        self.location, self._sources = location, tuple(sources)
        self.places = {place.part.name: place for place in self._place()}

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return max(place.offset + place.part.size_bytes for place in self.places.values())

    def write(self, folder: Path, on_bytes: Callable[[int], None] = lambda done: None) -> Path:
        """Write `folder / location`; returns the path. `on_bytes` gets the number of bytes written."""
        path, written, done = folder / self.location, dict.fromkeys(self.places, 0), 0
        with path.open("wb") as file:
            for source in self._sources:
                for name, piece in source.pieces():
                    file.seek(self.places[name].offset + written[name])
                    file.write(piece.contiguous().numpy().data)
                    written[name] += len(piece)
                    done += len(piece)
                    on_bytes(done)
        return path

    def _place(self) -> Iterator[Place]:
        offset = 0
        for source in self._sources:
            for part in source.parts:
                yield Place(part, self.location, offset)
                offset += -(-part.size_bytes // _ALIGNMENT) * _ALIGNMENT
