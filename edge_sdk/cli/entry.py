"""The `edge-sdk` command: every verb, and what becomes of an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from edge_sdk.cli import device, evaluating, learning, models  # noqa: F401 - importing them gives the app its verbs
from edge_sdk.cli.app import app
from edge_sdk.errors import ConfigError, EdgeError, RuntimeFailure
from edge_sdk.files import FULL
from edge_sdk.packages import extra_of, missing


def main() -> None:
    """Entry point of the `edge-sdk` command."""
    try:
        app()
    except EdgeError as error:
        typer.echo(f"edge-sdk: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        typer.echo(f"edge-sdk: {_missing(error)}", err=True)
        sys.exit(3)
    except OSError as error:  # a closed pipe has ended in `app` already
        typer.echo(f"edge-sdk: {_of_path(error)}", err=True)
        # A disk that is full may have room again: as with what is missing, a service is to be started anew.
        sys.exit(RuntimeFailure.exit_code if error.errno in FULL else ConfigError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").split(".")[0]
    extra = extra_of(package)
    if extra is None:
        raise error
    return missing(package, extra)


def _of_path(error: OSError) -> str:
    """What is wrong with a path that the caller gave, or that there is no room.

    A path of our own, or an error of none at all, is our bug: raised again.
    """
    if error.errno in FULL:
        place = f"{os.fsdecode(error.filename)} is not written: " if error.filename else ""
        return f"{place}{error.strerror}; make room, or write elsewhere"
    if not isinstance(error.filename, (str, bytes)):
        raise error
    path = Path(os.fsdecode(error.filename))
    if Path(__file__).parents[1] in path.absolute().parents:
        raise error
    return f"{path}: {error.strerror}; give a path that can be used"
