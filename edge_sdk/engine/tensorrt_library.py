"""The only access to TensorRT: the board's `tensorrt`, or TensorRT-RTX, which compiles without a GPU.

The two packages have the same API under two names. `export` builds with them and `runtimes` runs with them, so the
shared parts are here: which package is installed, its version, and its log.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import Any, Literal

from edge_sdk.errors import MissingDependencyError
from edge_sdk.hardware import dialect_of
from edge_sdk.packages import pip_install
from edge_sdk.registry import open_runtime
from edge_sdk.types import Dialect

Flavour = Literal["trt", "rtx"]

# Messages of TensorRT's allocator, of CUDA and of C++ in TensorRT's log (NVIDIA/TensorRT, issue 840).
_NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|bad_alloc", re.IGNORECASE)

_KEPT_ERRORS = 100

# flavour -> package, and how to install it
PACKAGES: dict[Flavour, tuple[str, str]] = {
    "trt": ("tensorrt", "on a Jetson it comes with JetPack (python3-libnvinfer), elsewhere: pip install tensorrt"),
    "rtx": ("tensorrt_rtx", f"run: {pip_install('rtx')}"),
}
# Any: the packages ship no types. Their class ILogger -> the one logger and the errors that it was given.
_LOGGERS: dict[Any, tuple[Any, _Kept]] = {}
_LOGGERS_LOCK = Lock()


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


class ProblemLog:
    """The errors that a TensorRT package logs from the making of this object, or its last `restart`, on.

    Errors of other threads in the meantime are among them, because TensorRT has one logger for the whole process.
    Create TensorRT's objects with `logger`.
    """

    # Any: the packages ship no types.
    def __init__(self, logger: Any, kept: _Kept) -> None:
        self.logger, self._kept = logger, kept
        self._begin = kept.count

    @property
    def problems(self) -> list[str]:
        """The errors, oldest first; the last ones if they are very many."""
        return self._kept.since(self._begin)

    def restart(self) -> None:
        """Forget the errors so far."""
        self._begin = self._kept.count


class _Kept:
    """The last errors of one package, and how many there were in all."""

    def __init__(self) -> None:
        self._lock, self._last = Lock(), deque[str](maxlen=_KEPT_ERRORS)
        self.count = 0

    def add(self, message: str) -> None:
        with self._lock:
            self._last.append(message)
            self.count += 1

    def since(self, count: int) -> list[str]:
        with self._lock:
            new = min(self.count - count, len(self._last))
            return list(self._last)[len(self._last) - new :]


def problem_log(tensorrt: TensorRT) -> ProblemLog:
    """Return a log of the errors of `tensorrt` from here on, for use in exceptions; nothing is printed.

    TensorRT uses the first logger that it is given for the whole process, and the logger must outlive all objects that
    use it. So each package gets one logger, which is never released.
    """
    base = tensorrt.module.ILogger
    with _LOGGERS_LOCK:
        if base not in _LOGGERS:
            _LOGGERS[base] = _logger(base)
        logger, kept = _LOGGERS[base]
    return ProblemLog(logger, kept)


# Any: the class derives from a class of the package, which ships no types.
def _logger(base: Any) -> tuple[Any, _Kept]:
    kept = _Kept()

    class Logger(base):  # type: ignore[misc]  # a class of a package without types
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.Severity.ERROR, base.Severity.INTERNAL_ERROR):
                kept.add(message.strip())

    return Logger(), kept


def problems(log: ProblemLog) -> str:
    """Return the errors in `log`, in one line."""
    return "; ".join(log.problems) or "it gave no reason"


def short_of_memory(log: ProblemLog) -> bool:
    """Return whether `log` has an error about memory that could not be allocated."""
    return _NO_MEMORY.search("; ".join(log.problems)) is not None
