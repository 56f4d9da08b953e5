"""CUDA's errors in words, the real package without a driver, and the copies that append rows."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edge_sdk.errors import MissingDependencyError, RuntimeFailure
from edge_sdk.hardware.cuda import CudaDevice, find_cuda_device
from edge_sdk.runtimes.cuda_device import CudaRuntime, open_cuda
from edge_sdk.runtimes.cuda_errors import cuda_error, insufficient_driver
from edge_sdk.runtimes.device_state import row_copies
from edge_sdk.tensors import append_rows


@pytest.fixture
def api() -> Any:
    if find_cuda_device() is not None:
        pytest.skip("there is a CUDA device here; these are the errors without one")
    return pytest.importorskip("cuda.bindings.runtime", reason="extra [tensorrt] is not installed")


def test_without_a_driver_it_says_what_to_do(api: Any) -> None:
    with pytest.raises(MissingDependencyError, match=r"CUDA: cudaSetDevice.*install NVIDIA's driver"):
        open_cuda()


ADDRESS = 1 << 20
CALLS: dict[str, tuple[Any, ...]] = {
    "allocate": (64,),
    "free": (ADDRESS,),
    "allocate_pinned": (64,),
    "free_pinned": (ADDRESS,),
    "create_stream": (),
    "destroy_stream": (1,),
    "copy": (ADDRESS, ADDRESS, 64, 1),
    "copy_rows": (ADDRESS, 8, ADDRESS, 8, 4, 2, 1),
    "clear": (ADDRESS, 64, 1),
    "synchronize": (1,),
    "capture": (1, lambda: None),
    "launch": (1, 1),
    "destroy_graph": (1,),
}


def test_every_call_is_one_that_the_package_takes(api: Any) -> None:
    """Without a driver each refuses, but not for its arguments: those the package has converted before it asks."""
    assert set(CALLS) == {name for name in vars(CudaRuntime) if not name.startswith("_")}
    device = CudaRuntime.__new__(CudaRuntime)
    device._api, device.allocations, device._any_way = api, 0, api.cudaMemcpyKind.cudaMemcpyDefault
    for name, arguments in CALLS.items():
        with pytest.raises(MissingDependencyError, match="driver"):
            getattr(device, name)(*arguments)


def test_every_code_has_its_place_in_the_error_tree(api: Any) -> None:
    for code in api.cudaError_t:
        if int(code) == 0:
            continue
        error = cuda_error("cudaMalloc", int(code), code.name, asked=5_000_000)
        assert isinstance(error, (MissingDependencyError, RuntimeFailure))
        assert f"{code.name} ({int(code)})" in str(error)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("cudaErrorMemoryAllocation", RuntimeFailure, r"5\.0 MB more were asked for; close other programs"),
        ("cudaErrorInsufficientDriver", MissingDependencyError, "older than cuda-bindings"),
        ("cudaErrorNoDevice", MissingDependencyError, "no device"),
        ("cudaErrorDevicesUnavailable", MissingDependencyError, "another program uses the GPU"),
        ("cudaErrorStubLibrary", MissingDependencyError, "a stub of libcuda"),
        ("cudaErrorInvalidDevice", MissingDependencyError, "CUDA_VISIBLE_DEVICES"),
        ("cudaErrorSystemDriverMismatch", MissingDependencyError, "of different versions"),
        ("cudaErrorNoKernelImageForDevice", RuntimeFailure, "edge-sdk build"),
        ("cudaErrorIllegalAddress", RuntimeFailure, "restart it"),
        ("cudaErrorLaunchFailure", RuntimeFailure, "edge-sdk verify"),
        ("cudaErrorStreamCaptureInvalidated", RuntimeFailure, "could not be captured"),
        ("cudaErrorStreamCaptureUnsupported", RuntimeFailure, "could not be captured"),
    ],
)
def test_the_codes_mean_what_the_words_say(api: Any, name: str, kind: type[Exception], words: str) -> None:
    """Names are the package's, so a wrong number in the table shows here."""
    code = getattr(api.cudaError_t, name)
    with pytest.raises(kind, match=words):
        raise cuda_error("cudaMalloc", int(code), name, asked=5_000_000)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("12.6", r"for CUDA 12\.6, .*in cuda-bindings 12\.9\.10; run: pip install 'cuda-bindings<12\.9'.*cuda-compat"),
        ("11.4", r"for CUDA 11\.4, .*flash JetPack 6 or later$"),
        (None, "there is no driver, or it is older than cuda-bindings 12.9.10: install NVIDIA's driver"),
    ],
)
def test_a_driver_that_is_too_old_is_named_beside_the_bindings(driver: str | None, words: str) -> None:
    orin = CudaDevice(name="Orin", sm=87, multiprocessors=8, driver="", memory_mb=8000.0, integrated=True)
    device = None if driver is None else replace(orin, driver=driver)
    assert re.search(words, insufficient_driver(device, "12.9.10"))


SHAPES = [
    ((1, 2, 16, 3), (1, 2, 4, 3), 2, [5]),
    ((3, 2, 16, 3), (3, 2, 4, 3), 2, [5]),
    ((3, 2, 16, 3), (3, 2, 4, 3), 2, [0, 12, 5]),
    ((2, 9, 4), (2, 3, 4), 1, [6, 1]),
    ((9,), (2,), 0, [7]),
    ((9, 5), (2, 5), 0, [3]),
    ((4, 9), (4, 2), 1, [7]),
    ((2, 3, 4, 6), (2, 3, 4, 2), 3, [4, 0]),
]


@pytest.mark.parametrize(("buffer", "rows", "axis", "starts"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_strided_copies_append_rows_as_numpy_does(
    buffer: tuple[int, ...], rows: tuple[int, ...], axis: int, starts: list[int], dtype: type[np.generic]
) -> None:
    random = np.random.default_rng(0)
    expected, new = random.normal(size=buffer).astype(dtype), random.normal(size=rows).astype(dtype)
    found = expected.copy()
    append_rows(expected, new, np.array(starts), axis)
    for copy in row_copies(buffer, rows, starts, axis, new.itemsize):
        target, source = found.ctypes.data + copy.target, new.ctypes.data + copy.source
        for row in range(copy.height):
            ctypes.memmove(target + row * copy.target_pitch, source + row * copy.source_pitch, copy.width)
    np.testing.assert_array_equal(found, expected)
