"""The files in a bundle's `reference/`: validated on reading, kept small on writing.

Inputs whose values are all exact in float16 are stored as float16, and widened for a graph that takes float32. Inputs
chosen with that in mind need half the bytes, so that the patches of a picture fit into a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.runtime import Array
from edge_sdk.types import TensorSpec

MAX_REFERENCE_BYTES = 2_000_000
_IN, _OUT = "in.", "out."


class ChainCase(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A clip, a prompt, and the expected answer; see `ChainReference` for shapes and types.

    `tokens` are fed step by step; `top_ids[:, 0]` is the expected output of each step. The two differ only where one
    model is fed the answer of another.
    """

    patches: Array
    ids: Array
    tokens: Array
    top_ids: Array
    top_logits: Array


_CHAIN: dict[str, tuple[str, int]] = {
    "patches": ("uint8", 3),
    "ids": ("int64", 1),
    "tokens": ("int64", 1),
    "top_ids": ("int64", 2),
    "top_logits": ("float32", 2),
}


def reference_bytes(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    """Return the safetensors file of a `ReferenceCase`.

    Raises `ConfigError` above 2 MB or for outputs that are not finite.
    """
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise ConfigError(f"reference output {name!r} holds values that are not finite; choose other inputs")
    named = {f"{_IN}{name}": _narrowed(array) for name, array in inputs.items()}
    return _bytes(named | {f"{_OUT}{name}": array for name, array in outputs.items()})


def chain_bytes(case: ChainCase) -> bytes:
    """Return the safetensors file of a `ChainReference`. Raises `ConfigError` above 2 MB."""
    return _bytes(msgspec.structs.asdict(case))


def load_reference(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Read the inputs and outputs of a `ReferenceCase`, by name. Raises `BundleError` for any other file."""
    tensors = _load(path)
    stray = [name for name in tensors if not name.startswith((_IN, _OUT))]
    if stray:
        raise BundleError(f"{path}: tensors are called {_IN}NAME or {_OUT}NAME, found {stray}")
    inputs = {name.removeprefix(_IN): array for name, array in tensors.items() if name.startswith(_IN)}
    outputs = {name.removeprefix(_OUT): array for name, array in tensors.items() if name.startswith(_OUT)}
    return inputs, outputs


def load_chain(path: Path) -> ChainCase:
    """Read the clip, prompt and answer of a `ChainReference`. Raises `BundleError` for any other file."""
    tensors = _load(path)
    found = {name: (str(array.dtype), array.ndim) for name, array in tensors.items()}
    if found != _CHAIN:
        raise BundleError(f"{path}: expected element types and dimensions {_CHAIN}, found {found}")
    case = ChainCase(**tensors)
    if not case.top_ids.size or case.top_ids.shape != case.top_logits.shape:
        shapes = {name: list(array.shape) for name, array in tensors.items()}
        raise BundleError(f"{path}: expected as many top ids as top logits, and one or more, found {shapes}")
    if not np.array_equal(case.top_ids[:, 0], case.tokens):
        raise BundleError(f"{path}: expected each token to be the first of its step's top ids, found others")
    return case


def load_inputs(path: Path, specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Read the inputs in `specs` that the safetensors file `path` holds under their own names, one at a time.

    Raises `BundleError` for a file that is not safetensors.
    """
    try:
        with safe_open(path, framework="np") as file:
            held = set(file.keys())
            return {spec.name: file.get_tensor(spec.name) for spec in specs if spec.name in held}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path} is not a safetensors file that numpy can read: {error}") from error


def widened(inputs: Mapping[str, Array], specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Return `inputs`, with float16 arrays widened to float32 where the graph takes float32."""
    wide = {spec.name for spec in specs if spec.dtype == "float32"}
    return {
        name: array.astype(np.float32) if name in wide and array.dtype == np.float16 else array
        for name, array in inputs.items()
    }


def _narrowed(array: Array) -> Array:
    """Return `array` as float16 if that loses nothing."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array, equal_nan=True) else array


def _bytes(tensors: Mapping[str, Array]) -> bytes:
    data = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    if len(data) > MAX_REFERENCE_BYTES:
        raise ConfigError(
            f"the reference has {len(data)} bytes, at most {MAX_REFERENCE_BYTES} are allowed; use smaller inputs"
        )
    return data


def _load(path: Path) -> dict[str, Array]:
    data = path.read_bytes()
    if len(data) > MAX_REFERENCE_BYTES:
        raise BundleError(f"{path} has {len(data)} bytes; a reference has at most {MAX_REFERENCE_BYTES}")
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path} is not a safetensors file that numpy can read: {error}") from error
