"""The token embedding table on the host, about a gigabyte; mapped, because an answer reads only one row per token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.manifest_language import Embedding
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.runtime import Array

_DTYPES = {"float32": "<f4", "float16": "<f2"}


class EmbeddingTable:
    """Rows of a memory-mapped table."""

    def __init__(self, rows: Array) -> None:
        """Wrap `rows [vocab, hidden]`, which are only read."""
        self._rows = rows

    @classmethod
    def open(cls, path: Path, entry: Embedding) -> EmbeddingTable:
        """Open the table in `path` that `entry` describes.

        Raises `BundleError` for an element type other than float32 and float16, and for a file of the wrong size.
        """
        if entry.dtype not in _DTYPES:
            raise BundleError(
                f"{path}: an embedding table is {' or '.join(_DTYPES)}, found {entry.dtype}; export the bundle again"
            )
        dtype = np.dtype(_DTYPES[entry.dtype])
        expected, found = entry.vocab * entry.hidden * dtype.itemsize, path.stat().st_size
        offset = entry.offset_bytes or 0
        if found < offset + expected if entry.offset_bytes is not None else found != expected:
            place = f" behind the first {offset}" if offset else ""
            raise BundleError(
                f"{path}: expected {expected} bytes for {entry.dtype} [{entry.vocab}, {entry.hidden}]{place}, "
                f"found {max(0, found - offset)}; export the bundle again"
            )
        return cls(np.memmap(path, dtype, mode="r", offset=offset, shape=(entry.vocab, entry.hidden)))

    @property
    def hidden(self) -> int:
        """Length of a row."""
        return int(self._rows.shape[1])

    def rows(self, ids: NDArray[np.int64]) -> Array:
        """Return copies of the rows `ids [n]` as `[n, hidden]` in the table's type.

        Raises `ConfigError` for an id outside the table.
        """
        outside = ids[(ids < 0) | (ids >= len(self._rows))]
        if outside.size:
            raise ConfigError(f"expected token ids of 0..{len(self._rows) - 1}, found {int(outside[0])}")
        return np.asarray(self._rows[ids])
