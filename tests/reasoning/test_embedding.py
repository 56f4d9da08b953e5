"""The mapped embedding table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edge_sdk.bundle.manifest_language import Embedding
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.types import DType

VALUES = np.random.default_rng(0).normal(size=(7, 4))


def entry(dtype: DType = "float32", vocab: int = 7) -> Embedding:
    return Embedding(file="table.bin", dtype=dtype, vocab=vocab, hidden=4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_are_those_of_the_file(tmp_path: Path, dtype: DType) -> None:
    values = VALUES.astype(f"<{np.dtype(dtype).str[1:]}")
    (tmp_path / "table.bin").write_bytes(values.tobytes())
    table = EmbeddingTable.open(tmp_path / "table.bin", entry(dtype))
    found = table.rows(np.array([6, 0, 6]))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values[[6, 0, 6]])
    assert table.hidden == 4
    assert table.rows(np.array([], np.int64)).shape == (0, 4)
    found[:] = 0
    np.testing.assert_array_equal(table.rows(np.array([6])), values[[6]])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("offset", [0, 52, 4096])
def test_rows_may_lie_among_other_weights(tmp_path: Path, dtype: DType, offset: int) -> None:
    values = VALUES.astype(f"<{np.dtype(dtype).str[1:]}")
    (tmp_path / "table.bin").write_bytes(b"\x01" * offset + values.tobytes() + b"\x02" * 10)
    table = EmbeddingTable.open(tmp_path / "table.bin", replace(entry(dtype), offset_bytes=offset))
    np.testing.assert_array_equal(table.rows(np.array([6, 0, 6])), values[[6, 0, 6]])


@pytest.mark.parametrize("size", [0, 100, 211])
def test_a_file_that_ends_within_the_table_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "table.bin").write_bytes(bytes(size))
    with pytest.raises(BundleError, match=rf"112 bytes .* behind the first 100, found {max(0, size - 100)};"):
        EmbeddingTable.open(tmp_path / "table.bin", replace(entry(), offset_bytes=100))


@pytest.mark.parametrize("token", [-1, 7, 151_665])
def test_an_id_that_has_no_row_is_refused(tmp_path: Path, token: int) -> None:
    (tmp_path / "table.bin").write_bytes(VALUES.astype("<f4").tobytes())
    table = EmbeddingTable.open(tmp_path / "table.bin", entry())
    with pytest.raises(ConfigError, match=rf"0\.\.6, found {token}"):
        table.rows(np.array([1, token, 2]))


@pytest.mark.parametrize("size", [0, 111, 113, 224])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "table.bin").write_bytes(bytes(size))
    with pytest.raises(BundleError, match=rf"table\.bin: expected 112 bytes for float32 \[7, 4\], found {size}"):
        EmbeddingTable.open(tmp_path / "table.bin", entry())


def test_an_element_type_that_numpy_has_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.bin").write_bytes(bytes(56))
    with pytest.raises(BundleError, match="float32 or float16, found bfloat16"):
        EmbeddingTable.open(tmp_path / "table.bin", entry("bfloat16"))
