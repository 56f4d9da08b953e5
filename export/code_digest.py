"""What stands for the code that makes a stage, so that what an older one has made is not taken for its own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path

from edge_sdk import __version__

_ROOM = Path(__file__).parent
# What a language export does not run: training, and quantisation, which has a digest of its own.
_APART = frozenset({"distil", "mini", "quantise"})


@cache
def export_code() -> dict[str, str]:
    """This version of the code of a language export, as inputs of its stages."""
    return {"edge_sdk": f"{__version__}+{code_digest(_ROOM, without=_APART)}"}


@cache
def quantise_code() -> dict[str, str]:
    """This version of the code of quantisation and calibration, as inputs of their stages."""
    return {"quantise_code": code_digest(_ROOM / "quantise")}


def code_digest(folder: Path, *, without: Collection[str] = ()) -> str:
    """Of every Python file below `folder`, names and content, but for its folders called as those in `without`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        if place.parts[0] not in without:
            digest.update(f"{place.as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
