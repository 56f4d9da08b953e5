"""Sources from a file, so that an address with a password stands on no command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.capture.uri import shown
from edge_sdk.console import warn
from edge_sdk.errors import ConfigError

# More than this is no list of cameras; a video given in its place is refused before it is read.
_MOST_BYTES = 1_000_000


def with_listed(named: Sequence[str], listed: Path | None) -> list[str]:
    """The sources named on the command line and those that the file `listed` lists, in this order.

    Raises `ConfigError` for none at all, and what `read_sources` raises.
    """
    found = [*named, *(read_sources(listed) if listed is not None else ())]
    if not found:
        raise ConfigError("expected at least one source, found none; name a file or a camera, or give --sources FILE")
    return found


def read_sources(path: Path) -> list[str]:
    """The sources in a file, one a line; blank lines, and those that begin with #, are left out.

    Warns where every user may read an address that holds a secret. Raises `ConfigError` for a file that
    cannot be read, is no text, or lists nothing.
    """
    wanted = "expected a text file with a source a line"
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--sources {path}: {wanted}, found none ({error.strerror})") from error
    try:
        if len(data) > _MOST_BYTES or b"\0" in data:
            raise ConfigError(f"--sources {path}: {wanted}, found something else; name a video without --sources")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ConfigError(f"--sources {path}: {wanted} in UTF-8, found byte {data[error.start]:#x}") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ConfigError(f"--sources {path}: {wanted}, found no line with one")
    # Not those of the group: systemd shows so who else its access list lets read a credential.
    if mode & stat.S_IRWXO and any(shown(source) != source for source in found):
        warn([f"{path} holds passwords, and every user may read it: chmod o= {path}"])
    return found
