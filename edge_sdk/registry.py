"""Rooms by name: runtimes and other optional modules, imported only when they are asked for.

The core of the SDK, the ground, never imports a room (runtimes, export, calibration, benchmarks). It opens one by name,
so `import edge_sdk` stays cheap, and a missing package is one clear error when it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from edge_sdk.errors import MissingDependencyError, UnknownNameError
from edge_sdk.packages import extra_of, missing, pip_install
from edge_sdk.runtime import Runtime

# runtime name -> (module, extra that installs what it needs)
RUNTIMES: dict[str, tuple[str, str]] = {
    "null": ("edge_sdk.runtimes.null", ""),
    "ort": ("edge_sdk.runtimes.ort", "cpu"),
    "rtx": ("edge_sdk.runtimes.rtx", "rtx"),
    "trt": ("edge_sdk.runtimes.trt", "tensorrt"),
}

DEFAULT_RUNTIME = "ort"


def check_runtime(name: str) -> None:
    """Raise `UnknownNameError` for a runtime that does not exist, whether or not its packages are installed."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, list(RUNTIMES))


def open_runtime(name: str) -> Runtime:
    """The runtime called `name`. Raises `UnknownNameError`, or `MissingDependencyError` with what to install."""
    check_runtime(name)
    module_name, extra = RUNTIMES[name]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"runtime {name!r} needs the package {error.name!r}, which is not installed; run: {pip_install(extra)}"
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"runtime {name!r} is installed but does not load: {error}; run: {pip_install(extra, again=True)}"
        ) from error
    return cast(Runtime, module.open_runtime())


def why_missing(name: str) -> str | None:
    """Why the runtime `name` cannot be opened here, in one line; None if it can."""
    try:
        open_runtime(name)
    except MissingDependencyError as error:
        return str(error)
    return None


# Any: the ground depends on no room; the functions of a room are typed in that room.
def open_room(module: str) -> Any:
    """The module `edge_sdk.MODULE` of one of the rooms, such as `export.pipeline`.

    Raises `MissingDependencyError` if a package from one of this project's extras is not installed.
    """
    try:
        return import_module(f"edge_sdk.{module}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = extra_of(package)
        if extra is None:
            raise
        raise MissingDependencyError(missing(package, extra)) from error
