"""The CUDA device of this machine, read from the driver itself, without any package and without creating a context.

Constants and signatures: CUDA Driver API, `cuda.h` (`cuInit`, `cuDriverGetVersion`, `cuDeviceGet*`).
"""

from __future__ import annotations

import ctypes

from edge_sdk.errors import MissingDependencyError
from edge_sdk.types import Value

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
_NAME_BYTES = 256
_GROUPS = "on a Jetson check that this user is in the groups video and render: sudo usermod -aG video,render USER"
_OWN_WORDS = {
    100: "the driver sees no device: check that NVIDIA's modules are loaded, or that the container was given the GPU; "
    + _GROUPS,
    803: "the driver is older than its CUDA library: restart after the update, or install matching packages",
    999: f"an unknown error; {_GROUPS}",
}


class CudaDevice(Value, frozen=True, kw_only=True):
    """The first device: its name, compute capability such as 87, memory in 10^6 bytes, and the driver's CUDA version.

    `multiprocessors` distinguishes boards of one compute capability; on a Jetson some power modes switch some of them
    off. `integrated` is true if the device shares the machine's memory, as on a Jetson.
    """

    name: str
    sm: int
    multiprocessors: int
    driver: str
    memory_mb: float
    integrated: bool


def cuda_device(library: str = LIBRARY) -> CudaDevice:
    """Describe the first CUDA device. Raises `MissingDependencyError` that says what is missing and what to do."""
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise MissingDependencyError(
            f"there is no CUDA driver ({error}); install NVIDIA's driver, on a Jetson flash JetPack"
        ) from error
    _call(driver, "cuInit", 0)
    device, version = ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return CudaDevice(
        name=name.value.decode(errors="replace"),
        sm=_attribute(driver, _MAJOR, device) * 10 + _attribute(driver, _MINOR, device),
        multiprocessors=_attribute(driver, _MULTIPROCESSORS, device),
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
        memory_mb=memory.value / 1e6,
        integrated=bool(_attribute(driver, _INTEGRATED, device)),
    )


def find_cuda_device(library: str = LIBRARY) -> CudaDevice | None:
    """Describe the first CUDA device, None if there is none."""
    try:
        return cuda_device(library)
    except MissingDependencyError:
        return None


def _attribute(driver: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


# object: ctypes decides which arguments a C function takes.
def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        told = _OWN_WORDS.get(code, "look the number up as CUresult in cuda.h")
        raise MissingDependencyError(f"{function} of the CUDA driver failed with error {code}; {told}")
