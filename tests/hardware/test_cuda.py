"""The CUDA driver's answers, given by a small C library in its place: no test machine needs a GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_sdk.errors import MissingDependencyError
from edge_sdk.hardware.cuda import CudaDevice, cuda_device, find_cuda_device

SOURCE = r"""
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 3 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device)
{
    strncpy(name, device == 3 ? "Orin" : "wrong", length);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 64000000000ull; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 14 : attribute == 18;
    return device == 3 ? 0 : 101;
}
"""


def driver(folder: Path, init: int) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make the library with")
    source, library = folder / "cuda.c", folder / "libcuda.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", f"-DINIT={init}", "-o", library, source], check=True)
    return str(library)


def test_a_board_is_told_by_its_driver(tmp_path: Path) -> None:
    found = cuda_device(driver(tmp_path, 0))
    assert found == CudaDevice(
        name="Orin", sm=87, multiprocessors=14, driver="12.6", memory_mb=64000.0, integrated=True
    )


def test_a_driver_without_a_device_says_what_to_do(tmp_path: Path) -> None:
    library = driver(tmp_path, 100)
    with pytest.raises(MissingDependencyError, match=r"cuInit .* with error 100; the driver sees no device"):
        cuda_device(library)
    assert find_cuda_device(library) is None


@pytest.mark.parametrize("code", [100, 999])
def test_a_user_who_may_not_open_the_gpu_is_told_the_groups(tmp_path: Path, code: int) -> None:
    with pytest.raises(MissingDependencyError, match=rf"error {code}; .*usermod -aG video,render USER"):
        cuda_device(driver(tmp_path, code))


def test_no_driver_is_one_clear_error() -> None:
    with pytest.raises(MissingDependencyError, match=r"there is no CUDA driver \(libnone\.so.*install NVIDIA's driver"):
        cuda_device("libnone.so")
