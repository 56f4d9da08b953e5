"""Sources from a file, so that no password appears on the command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.capture.uri import shown
from edge_sdk.cli.addresses import refuse_address
from edge_sdk.console import warn
from edge_sdk.errors import ConfigError

# A larger file is not a list of cameras. The limit refuses a video given by mistake before it is read whole.
_MOST_BYTES = 1_000_000


def with_listed(named: Sequence[str], listed: Path | None) -> list[str]:
    """Return the sources named on the command line, then those in the file `listed`.

    Raises `ConfigError` if there are none at all, and what `read_sources` raises.
    """
    found = [*named, *(read_sources(listed) if listed is not None else ())]
    if not found:
        raise ConfigError("expected at least one source, found none; name a file or a camera, or give --sources FILE")
    return found


def read_sources(path: Path) -> list[str]:
    """Read the sources in a file, one per line; blank lines and lines that begin with # are skipped.

    Warns if every user may read an address that holds a secret. Raises `ConfigError` for a file that cannot be read, is
    not text, or lists nothing.
    """
    wanted = "expected a text file with one source per line"
    refuse_address("--sources", path, wanted)
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
        raise ConfigError(f"--sources {path}: {wanted}, found no source")
    # Group permissions do not count: on a systemd credential they reflect its access list.
    if mode & stat.S_IRWXO and any(shown(source) != source for source in found):
        warn([f"{path} holds passwords, and every user can read it; run: chmod o= {path}"])
    return found
