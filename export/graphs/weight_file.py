"""The weights of one part of the model in one file, which all of that part's graphs share.

Graphs of either dialect and of any grid or number of slots refer to the same tensors at the same offsets, so a bundle
holds each weight once. Offsets follow from names and shapes alone: graphs can be made without reading a weight.

A matrix is stored as the product x·W needs it: W `[inputs, outputs]`, the transpose of a checkpoint's. So graphs need
no Transpose, and quantisation blocks lie along the inputs. A head tied to the embedding table may be stored like the
table, `[vocab, hidden]`: the host then reads its rows from this file, and the table needs no file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from edge_sdk.export.checkpoint import Weights
from edge_sdk.export.graphs.decoder import text_rope
from edge_sdk.export.graphs.loading import source_name
from edge_sdk.export.layouts import EMBEDDING, HEAD, Shape
from edge_sdk.export.shards import finite
from edge_sdk.types import DType

Part = Literal["vision", "projector", "decoder"]

ROPE = ("decoder.rope.cos", "decoder.rope.sin")
# Page size, so that a runtime can memory-map each tensor separately (ONNX, ExternalData.md).
_ALIGNMENT = 4096
_BLOCK_BYTES = 1 << 28


@dataclass(frozen=True)
class Placed:
    """Where one tensor lies in the file, and how it is stored."""

    name: str
    shape: Shape
    offset: int
    length: int


class WeightFile:
    """The plan of one part's file.

    `location` is the file's name, beside the graphs that use it; a bundle with several projectors gives each its own.
    `holds_table`: store a tied head like the embedding table, row by row; False where the model is not tied.
    """

    def __init__(
        self, weights: Weights, part: Part, dtype: DType, location: str = "", *, hold_table: bool = False
    ) -> None:
        self.part, self.dtype, self.location = part, dtype, location or f"{part}.weights"
        self.holds_table = hold_table and part == "decoder" and weights.config.text.tied
        self._type: torch.dtype = getattr(torch, dtype)
        self._readers = dict(_readers(weights, part, self.holds_table))
        self._placed = {placed.name: placed for placed in self._place()}

    def __getitem__(self, name: str) -> Placed:
        """A tensor's place. Raises `KeyError` for a name that the part does not have."""
        return self._placed[name]

    @property
    def item_bytes(self) -> int:
        """Length of one value."""
        return self._type.itemsize

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return max(placed.offset + placed.length for placed in self._placed.values())

    def write(self, folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """Write `folder / location`, one tensor at a time; returns the path. `on_progress` gets bytes done and in all.

        Raises `CheckpointError` for a value that is not finite, or not in the element type.
        """
        path = folder / self.location
        with path.open("wb") as file:
            for name, placed in self._placed.items():
                file.seek(placed.offset)
                self._write(file, name, self._readers[name].read())
                on_progress(placed.offset + placed.length, self.size_bytes)
        return path

    def _write(self, file: BinaryIO, name: str, tensor: Tensor) -> None:
        rows = max(1, _BLOCK_BYTES * len(tensor) // (tensor.numel() * self._type.itemsize))
        for block in tensor.split(rows):
            stored = finite(block.to(self._type), f"{name} as {self.dtype}").contiguous()
            file.write(stored.view(torch.uint8).numpy().data)

    def _place(self) -> Iterator[Placed]:
        offset = 0
        for name, reader in self._readers.items():
            length = torch.Size(reader.shape).numel() * self._type.itemsize
            yield Placed(name, reader.shape, offset, length)
            offset += -(-length // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class _Reader:
    shape: Shape
    read: Callable[[], Tensor]


def _readers(weights: Weights, part: Part, by_row: bool) -> Iterator[tuple[str, _Reader]]:
    names = [name for name in weights.names() if name.startswith(f"{part}.") and name not in (EMBEDDING, HEAD)]
    if part == "decoder":
        yield from _rope_readers(weights)
    for name in names:
        yield name, _reader(weights, source_name(weights, name))
    if part == "decoder":
        yield HEAD, _table_reader(weights) if by_row else _reader(weights, source_name(weights, HEAD))


def _reader(weights: Weights, source: str) -> _Reader:
    shape = tuple(int(length) for length in weights.spec(source).shape)
    return _Reader(shape[::-1], lambda: weights.tensor(source).t())


def _table_reader(weights: Weights) -> _Reader:
    vocab, hidden = (int(length) for length in weights.spec(EMBEDDING).shape)
    return _Reader((vocab, hidden), lambda: weights.tensor(EMBEDDING))


def _rope_readers(weights: Weights) -> Iterator[tuple[str, _Reader]]:
    text = weights.config.text
    shape = (text.max_positions, text.head_dim // 2)
    cos, sin = ROPE
    yield cos, _Reader(shape, lambda: text_rope(text)[0])
    yield sin, _Reader(shape, lambda: text_rope(text)[1])
