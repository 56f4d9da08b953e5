"""Prepared samples on disk, to reuse: decoding and encoding an archive takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation.protocol import Prepared
from edge_sdk.files import write_bytes


def write_prepared(path: Path, prepared: Prepared) -> None:
    """Write the result of `prepare`; paths are written unchanged."""
    write_bytes(path, msgspec.json.encode(prepared, enc_hook=_text))


def read_prepared(path: Path) -> Prepared:
    """Read what `write_prepared` wrote. Raises `ConfigError` for a broken file, or if any of its samples is gone."""
    try:
        prepared = msgspec.json.decode(path.read_bytes(), type=Prepared, dec_hook=_value)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"prepared samples {path} are not readable: {error}; remove the folder") from error
    gone = [str(sample.path) for sample in prepared.samples if not sample.path.is_file()]
    if gone:
        raise ConfigError(f"{path} names {len(gone)} samples that do not exist, such as {gone[0]}; remove the folder")
    return prepared


# Any: msgspec passes values of types that it does not know.
def _text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no form for {type(value).__name__}")


def _value(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise TypeError(f"no form for {kind.__name__}")
