"""LoRA matrices of a file, against `safetensors` and `/proc`: mapped, for runtimes to keep; and files gone wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from host_cuda import HostCuda
from memory_use import anonymous_mb
from safetensors.numpy import load_file, save_file

from edge_sdk.errors import BundleError
from edge_sdk.reasoning.tuned import lora_feeds
from edge_sdk.runtime import Array
from edge_sdk.runtimes.cuda_memory import Arena
from edge_sdk.runtimes.device_staging import Staging
from edge_sdk.types import DType, TensorSpec


def matrices(rows: int = 6, dtype: DType = "float16") -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {"lora.0.q.a": (rows, 4), "lora.0.q.b": (4, 5)}
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def specs(dtype: DType = "float16", rows: int = 6) -> list[TensorSpec]:
    shapes = {"lora.0.q.a": (rows, 4), "lora.0.q.b": (4, 5)}
    return [TensorSpec(name=name, dtype=dtype, shape=shape) for name, shape in shapes.items()]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_values_are_those_of_the_file_and_nobody_changes_them(dtype: DType, tmp_path: Path) -> None:
    save_file(matrices(dtype=dtype), tmp_path / "lora")
    found = lora_feeds(tmp_path / "lora", specs(dtype), ())
    for name, array in load_file(tmp_path / "lora").items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable
        # What a runtime asks for so is the very same array, which it knows again in the next call.
        assert np.ascontiguousarray(found[name]) is found[name]


def test_the_file_is_mapped_and_a_device_keeps_what_it_has(tmp_path: Path) -> None:
    rows = 4_000_000
    save_file(matrices(rows), tmp_path / "lora")  # 32 MB
    inputs = specs(rows=rows)
    before = anonymous_mb()
    found = lora_feeds(tmp_path / "lora", inputs, ())
    assert np.isfinite(found["lora.0.q.a"][:: 1 << 10]).all()
    assert anonymous_mb() - before < 8
    cuda = HostCuda()
    staging = Staging(inputs, {}, Arena(cuda, cuda), cuda.create_stream())
    staging.send(found)
    staging.send(found)
    assert cuda.copied == [array.nbytes for array in found.values()]


def test_values_that_lie_unaligned_are_read_too(tmp_path: Path) -> None:
    values = matrices(dtype="float32")
    begin, header = 0, {}
    for name, array in values.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (1 + -len(text) % 4)
    data = b"".join(array.tobytes() for array in values.values())
    (tmp_path / "lora").write_bytes(len(text).to_bytes(8, "little") + text + data)
    found = lora_feeds(tmp_path / "lora", specs("float32"), ())
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.aligned
        assert not found[name].flags.writeable


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (None, "LoRA matrices, found 'lora.0.q.b'"),
        (np.zeros((5, 4), np.float16), r"float16 \[4, 5\], found F16 \[5, 4\]"),
        (np.zeros((4, 5), np.float32), r"float16 \[4, 5\], found F32 \[4, 5\]"),
    ],
    ids=["missing", "shape", "type"],
)
def test_a_matrix_that_is_wrong_is_refused(other: Array | None, said: str, tmp_path: Path) -> None:
    held = {name: array for name, array in matrices().items() if name != "lora.0.q.b"}
    save_file(held | ({} if other is None else {"lora.0.q.b": other}), tmp_path / "lora")
    with pytest.raises(BundleError, match=f"lora: expected .*{said}"):
        lora_feeds(tmp_path / "lora", specs(), ())


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    save_file(matrices(), tmp_path / "lora")
    whole = (tmp_path / "lora").read_bytes()
    for data in (whole[:-3], whole[:20], b"nothing", b""):
        (tmp_path / "lora").write_bytes(data)
        with pytest.raises(BundleError, match=r"lora: expected the decoder's LoRA matrices, found .*; export again"):
            lora_feeds(tmp_path / "lora", specs(), ())


def test_an_adapter_that_was_never_tuned_adds_nothing() -> None:
    found = lora_feeds(None, specs(), ())
    assert not any(array.any() or array.flags.writeable for array in found.values())
