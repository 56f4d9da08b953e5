"""The only access to TensorRT: the board's `tensorrt`, or TensorRT-RTX, which compiles without a GPU.

The two packages have the same API under two names. `export` builds with them and `runtimes` runs with them, so the
shared parts are here: which package is installed, its version, and its log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from edge_sdk.errors import MissingDependencyError
from edge_sdk.hardware import dialect_of
from edge_sdk.packages import pip_install
from edge_sdk.registry import open_runtime
from edge_sdk.types import Dialect

Flavour = Literal["trt", "rtx"]

# Messages of TensorRT's allocator, of CUDA and of C++ in TensorRT's log (NVIDIA/TensorRT, issue 840).
_NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|bad_alloc", re.IGNORECASE)

# flavour -> package, and how to install it
PACKAGES: dict[Flavour, tuple[str, str]] = {
    "trt": ("tensorrt", "on a Jetson it comes with JetPack (python3-libnvinfer), elsewhere: pip install tensorrt"),
    "rtx": ("tensorrt_rtx", f"run: {pip_install('rtx')}"),
}


@dataclass(frozen=True)
class TensorRT:
    """An installed TensorRT. `module` is the package; `version` is a string such as "10.3.0"."""

    flavour: Flavour
    # Any: the packages ship no types.
    module: Any
    version: str

    @property
    def dialect(self) -> Dialect:
        """The graph dialect that it parses. Raises `ConfigError` for a TensorRT before 10.3."""
        return "native" if self.flavour == "rtx" else dialect_of(self.version)

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor = re.findall(r"\d+", self.version)[:2]
        return int(major), int(minor)


def open_tensorrt(flavour: Flavour) -> TensorRT:
    """Open the installed package.

    Raises `MissingDependencyError`, which says how to install the package or why it does not load.
    """
    package, remedy = PACKAGES[flavour]
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"the package {error.name!r} is not installed; {remedy}") from error
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"{package} is installed but does not load: {error}; {remedy}") from error
    return TensorRT(flavour=flavour, module=module, version=str(module.__version__))


def runtime_dialects(runtime: str) -> tuple[Dialect, ...]:
    """Return the dialects that a runtime reads on this machine.

    TensorRT is asked only for its version, which needs no GPU. Raises `MissingDependencyError` for a runtime that is
    not installed, and `ConfigError` for a TensorRT that is too old.
    """
    for flavour in PACKAGES:
        if runtime == flavour:
            return (open_tensorrt(flavour).dialect,)
    return open_runtime(runtime).dialects


# Any: the class derives from a class of the package, which ships no types.
def problem_log(tensorrt: TensorRT) -> Any:
    """Return a logger that prints nothing and keeps errors in its list `problems`, for use in exceptions."""
    base = tensorrt.module.ILogger

    class ProblemLog(base):  # type: ignore[misc, valid-type]  # a class of a package without types
        def __init__(self) -> None:
            super().__init__()
            self.problems: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.Severity.ERROR, base.Severity.INTERNAL_ERROR):
                self.problems.append(message.strip())

    return ProblemLog()


def problems(log: Any) -> str:
    """Return the errors kept by a logger of `problem_log`, in one line."""
    return "; ".join(log.problems) or "it gave no reason"


# Any: the packages ship no types.
def short_of_memory(log: Any) -> bool:
    """Return whether a logger of `problem_log` kept an error about memory that could not be allocated."""
    return _NO_MEMORY.search("; ".join(log.problems)) is not None
