"""CUDA error codes as SDK exceptions, each with a remedy.

Codes: `cudaError_t` of the CUDA Runtime API.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edge_sdk.errors import DeviceLostError, EdgeError, MissingDependencyError, RuntimeFailure
from edge_sdk.hardware.cuda import CudaDevice, find_cuda_device

MORE_MEMORY = "close other programs on the GPU, bind a state with fewer slots or streams, or build with smaller limits"
NO_DRIVER = "install NVIDIA's driver, on a Jetson flash JetPack"
_OUT_OF_MEMORY, _INSUFFICIENT_DRIVER = 2, 35
# The first major version of CUDA whose drivers cuda-bindings 12 runs on.
_OLDEST_CUDA = 12
_MISSING = {
    3: "the driver did not start: look at `dmesg`, then restart the machine",
    34: "a stub of libcuda is loaded instead of the driver's: remove it from LD_LIBRARY_PATH",
    46: "another program uses the GPU exclusively: stop it, or set the compute mode to DEFAULT",
    100: "the driver sees no device: in a container start it with the GPU, on a board check the kernel modules",
    101: "the device is not there: unset CUDA_VISIBLE_DEVICES",
    803: "driver and libraries are of different versions: restart after the update",
    804: "this GPU needs a driver of the libraries' own version: update the driver",
}
_FAILED = {
    209: "the engine holds no code for this GPU; run: edge-sdk build --bundle BUNDLE",
    700: "a kernel used memory outside its own, so this process can run nothing more: restart it; verify the engine: "
    "edge-sdk verify",
    719: "a kernel failed, so this process can run nothing more: restart it; verify the engine: edge-sdk verify",
    900: "the engine could not be captured as a CUDA graph",
    901: "the engine could not be captured as a CUDA graph",
}
# Sticky errors: the CUDA context cannot be used again.
_LOST = frozenset({214, 700, 702, 710, 714, 715, 716, 717, 718, 719})
_DEFAULT = "restart the program; if it comes again, look the code up as cudaError_t"


def cuda_error(function: str, code: int, name: str, asked: int = 0) -> EdgeError:
    """Return the exception for a `cudaError_t` code, with its remedy.

    `asked` is the size in bytes of a failed allocation.
    """
    told = f"CUDA: {function} gave {name} ({code})"
    if code == _INSUFFICIENT_DRIVER:
        return MissingDependencyError(f"{told}; {insufficient_driver(find_cuda_device(), _bindings())}")
    if code in _MISSING:
        return MissingDependencyError(f"{told}; {_MISSING[code]}")
    if code == _OUT_OF_MEMORY:
        return RuntimeFailure(f"{told}: {asked / 1e6:.1f} MB more were asked for; {MORE_MEMORY}")
    kind = DeviceLostError if code in _LOST else RuntimeFailure
    return kind(f"{told}; {_FAILED.get(code, _DEFAULT)}")


def insufficient_driver(device: CudaDevice | None, bindings: str) -> str:
    """Say why the driver of `device` is too old for `cuda-bindings` of version `bindings`, and what to do.

    `cuda-bindings` from 12.9 on contain a CUDA Runtime of their own version; 12.8 calls the driver directly.
    """
    if device is None:
        return f"there is no driver, or it is older than cuda-bindings {bindings}: {NO_DRIVER}"
    told = f"the driver is for CUDA {device.driver}, which is too old for the CUDA Runtime in cuda-bindings {bindings}"
    if int(device.driver.partition(".")[0]) < _OLDEST_CUDA:
        return f"{told}; install a driver for CUDA {_OLDEST_CUDA} or later, on a Jetson flash JetPack 6 or later"
    return f"{told}; run: pip install 'cuda-bindings<12.9' (JetPack 6 has CUDA 12.6), or install NVIDIA's cuda-compat"


def _bindings() -> str:
    try:
        return version("cuda-bindings")
    except PackageNotFoundError:
        return "of an unknown version"
