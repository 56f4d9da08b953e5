"""Staging of feeds to the device and of results back: each tensor has device memory and a pinned host copy.

Both are as large as the tensor ever gets and are allocated once. So a call allocates nothing on the device, and the
addresses recorded in a captured graph stay valid.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.cuda_memory import Arena
from edge_sdk.tensors import numpy_dtype, shape_of
from edge_sdk.types import TensorSpec


class Staging:
    """Memory for the tensors of `specs`, each sized for the lengths `largest`.

    `shared` gives the device addresses of tensors that already have memory there. A tensor in `on_host` is used from
    its pinned copy. The graph itself writes to the memory of the tensors in `written`.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        largest: Mapping[str, int],
        arena: Arena,
        stream: int,
        *,
        shared: Mapping[str, int] | None = None,
        on_host: frozenset[str] = frozenset(),
        written: frozenset[str] = frozenset(),
    ) -> None:
        self._cuda, self._stream = arena.cuda, stream
        self._specs = {spec.name: spec for spec in specs}
        self._on_host, self._written = on_host, written
        self._pinned: dict[str, tuple[int, Array]] = {}
        self._kept: dict[str, Array] = {}
        self.addresses: dict[str, int] = {}
        for spec in specs:
            size = math.prod(shape_of(spec, largest)) * numpy_dtype(spec).itemsize
            self._pinned[spec.name] = arena.pinned(size)
            self.addresses[spec.name] = self._place(spec.name, size, arena, shared or {})

    def send(self, feeds: Feeds) -> None:
        """Queue the copies of `feeds` to the device.

        A read-only array that the last call also passed, such as an adapter matrix, is already there and is not copied
        again, unless the graph may have overwritten it.
        """
        for name, array in feeds.items():
            if self._kept.get(name) is array:
                continue
            address, _ = self._pinned[name]
            self._view(name, array.shape)[...] = array
            if name not in self._on_host:
                self._cuda.copy(self.addresses[name], address, array.nbytes, self._stream)
            self._kept.pop(name, None)
            if name not in self._written and _unchangeable(array):
                self._kept[name] = array

    def fetch(self, dims: Mapping[str, int]) -> None:
        """Queue the copies of the results to the host; `dims` are the lengths of this call."""
        for name, spec in self._specs.items():
            if name not in self._on_host:
                size = math.prod(shape_of(spec, dims)) * numpy_dtype(spec).itemsize
                self._cuda.copy(self._pinned[name][0], self.addresses[name], size, self._stream)

    def results(self, dims: Mapping[str, int]) -> dict[str, Array]:
        """Return the results that `fetch` copied, once the stream is synchronised; the caller owns the arrays."""
        return {name: self._view(name, shape_of(spec, dims)).copy() for name, spec in self._specs.items()}

    def _place(self, name: str, size: int, arena: Arena, shared: Mapping[str, int]) -> int:
        if name in shared:
            return shared[name]
        return self._pinned[name][0] if name in self._on_host else arena.device(size)

    def _view(self, name: str, shape: tuple[int, ...]) -> Array:
        dtype = numpy_dtype(self._specs[name])
        view: Array = self._pinned[name][1][: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        return view


def largest_lengths(ranges: Sequence[Mapping[str, tuple[int, int]]], fixed: Mapping[str, int]) -> dict[str, int]:
    """Return the largest length of every free dimension over all ranges; the lengths in `fixed` override them."""
    names = {name for lengths in ranges for name in lengths}
    return {name: max(lengths[name][1] for lengths in ranges if name in lengths) for name in names} | dict(fixed)


def _unchangeable(array: Array) -> bool:
    """Return whether the array and the memory it views are read-only."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, (bytes, mmap.mmap))
