"""Every error this SDK raises on purpose.

    EdgeError
    ├── ConfigError                a value the caller chose (exit code 2)
    │   └── UnknownNameError       a name that is not in a closed list
    ├── SourceError                a source that cannot be opened or decoded (3)
    ├── MissingDependencyError     a package or plugin that is not installed (3)
    ├── RuntimeFailure             an inference runtime refused a graph or feed, or failed (3)
    │   └── DeviceLostError        a fault of the GPU after which nothing more runs in this process
    ├── BundleError                a bundle that must not be used (4)
    │   ├── BundleMissingFileError     a file in the manifest is not in the folder
    │   │   └── BundleUnreadableError      the folder is not there, or cannot be read now (3)
    │   ├── BundleChangedFileError     a file's bytes are not those of the manifest
    │   ├── BundleUnlistedFileError    a file is there, or is read by a graph, that the manifest does not vouch for
    │   ├── BundleKeyError             the manifest is not JSON, or has an unknown, missing or ill-typed key
    │   ├── BundleNameError            a name that becomes a file's name could not be one
    │   ├── BundlePathError            a path leaves the bundle's folder, or is not plain
    │   └── BundleSchemaError          the manifest is of a schema this SDK does not read
    ├── EngineError                an engine that is foreign, stale or damaged, or could not be built (4)
    ├── CheckpointError            a checkpoint or adapter that is not whole, not understood, or does not fit (4)
    ├── VerificationError          a session's outputs are not the bundle's reference outputs (4)
    └── Cancelled                  work that nobody waits for any more (1)

Each message says what was expected, what was found and what to do. `exit_code` is what the command line exits with.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of every error raised on purpose; anything else is a bug in this SDK."""

    exit_code = 1


class ConfigError(EdgeError):
    """A setting or argument is not usable."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name is not in a closed list."""

    def __init__(self, what: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")


class SourceError(EdgeError):
    """A source cannot be opened, or cannot be decoded."""

    exit_code = 3


class MissingDependencyError(EdgeError):
    """A package, plugin or device that the request needs is not there."""

    exit_code = 3


class RuntimeFailure(EdgeError):
    """An inference runtime refused a graph or a feed, or failed at it: memory is full, a kernel or a process died.

    A service manager may start the program again: the bundle is good.
    """

    exit_code = 3


class DeviceLostError(RuntimeFailure):
    """A fault of the GPU after which nothing more runs in this process."""


class BundleError(EdgeError):
    """A bundle must not be used as it is."""

    exit_code = 4


class BundleMissingFileError(BundleError):
    """A file named in the manifest is not in the folder."""


class BundleUnreadableError(BundleMissingFileError):
    """The folder is not there, or cannot be read now: a disk may be mounted late, or fail for a moment."""

    exit_code = 3


class BundleChangedFileError(BundleError):
    """A file's bytes are not those that the manifest vouches for."""


class BundleUnlistedFileError(BundleError):
    """A file is in the folder, or is read by a graph, that the manifest does not vouch for."""


class BundleKeyError(BundleError):
    """The manifest is not JSON, or has an unknown, missing or ill-typed key."""


class BundleNameError(BundleError):
    """A name in the manifest that becomes part of a file name is not usable as one."""


class BundlePathError(BundleError):
    """A path in the manifest leaves the bundle's folder."""


class BundleSchemaError(BundleError):
    """The manifest is of a schema that this SDK does not read."""


class EngineError(EdgeError):
    """An engine cannot be built here, or is foreign, stale or damaged."""

    exit_code = 4


class CheckpointError(EdgeError):
    """A checkpoint or an adapter is not whole, not understood, or does not fit."""

    exit_code = 4


class VerificationError(EdgeError):
    """A session's outputs differ from the bundle's reference outputs by more than the tolerance."""

    exit_code = 4


class Cancelled(EdgeError):
    """Work was stopped because nobody waits for it any more."""
