"""Digests of the code that makes a stage, so that a stage made by older code is not reused."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

from edge_sdk import __version__

_ROOM = Path(__file__).parent
# Folders that a language export does not run: training, and quantisation, which has its own digest.
_APART = frozenset({"distil", "mini", "quantise"})


@cache
def export_code() -> dict[str, str]:
    """Version and digest of the code of a language export, as inputs of its stages."""
    return {"edge_sdk": f"{__version__}+{code_digest(_ROOM, without=_APART)}"}


@cache
def quantise_code() -> dict[str, str]:
    """Digest of the code of quantisation and calibration, as inputs of their stages."""
    return {"quantise_code": code_digest(_ROOM / "quantise")}


def code_digest(folder: Path, *, without: Collection[str] = ()) -> str:
    """Digest of the names and contents of all Python files below `folder`, except in its sub-folders `without`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        if place.parts[0] not in without:
            digest.update(f"{place.as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
