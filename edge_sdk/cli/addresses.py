"""Addresses on the command line: no usage error shows the password of one, and none is taken for a file or folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from edge_sdk.console import without_secrets
from edge_sdk.errors import ConfigError

# A path has one slash where the address that was given had two, and none at its end.
_ADDRESS = re.compile(r"(?:rtsps?|v4l2|csi|test):(?:/|\Z)", re.IGNORECASE)
# By its version, typer has a copy of click or uses click: the class is reached through one that typer exports.
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
_LOST_SLASH = re.compile(r"\A(rtsps?):/", re.IGNORECASE)


class RedactingGroup(TyperGroup):
    """The commands of `edge-sdk`. Usage errors repeat the words that they are about; secrets in these are hidden."""

    # Any: the types of contexts and results are the private ones of typer, or those of click, by version.
    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the words up to the verb."""
        with _redacted_usage():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Read the words of the verb, and run it."""
        with _redacted_usage():
            return super().invoke(ctx)


@contextmanager
def _redacted_usage() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        error.message = without_secrets(error.message)
        raise


def bundle_folder(path: Path | None) -> Path | None:
    """Return the value of `--bundle` as it is; raises `ConfigError` for the address of a source."""
    if path is not None:
        refuse_address("--bundle", path, "expected the folder of a bundle")
    return path


def refuse_address(option: str, path: Path, wanted: str) -> None:
    """Raise `ConfigError` if the `path` given to `option` is the address of a source, and no file has that name."""
    if _ADDRESS.match(str(path)) and not os.path.lexists(path):
        address = _LOST_SLASH.sub(r"\1://", str(path))
        raise ConfigError(
            f"{option} {without_secrets(address)}: {wanted}, found the address of a source; give it without {option}"
        )
