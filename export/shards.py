"""Tensors in files: list them from headers alone, and read them one at a time.

Files are memory-mapped, never loaded whole: a tensor's bytes enter memory when it is read, and the kernel may drop them
again, so a 16 GB checkpoint does not take 16 GB. Pickles are read by torch's restricted unpickler, which builds
tensors and calls no other code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.config_file import Section, read_json
from edge_sdk.export.layouts import Shape, some
from edge_sdk.types import DType

# The files' names for the element types that this toolchain reads; other types keep the file's name in errors.
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: its name, shape and element type as stored."""

    file: Path
    name: str
    shape: Shape
    dtype: str

    @property
    def where(self) -> str:
        """File and tensor, as errors name them."""
        return f"{self.file}, tensor {self.name}"


class TensorFile(Protocol):
    """One file of tensors."""

    @property
    def stored(self) -> Mapping[str, Stored]:
        """The file's tensors, by name."""

    def read(self, name: str) -> Tensor:
        """One tensor, memory-mapped from the file: do not write into it."""


class Tensors:
    """The tensors of one or more files under one set of names."""

    def __init__(self, origin: Path, files: list[TensorFile]) -> None:
        self.origin = origin
        self._homes = {name: file for file in files for name in file.stored}
        self.stored = {name: stored for file in files for name, stored in file.stored.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, checked to be finite. It is memory-mapped from the file: do not write into it.

        Raises `CheckpointError` naming file and tensor when a value is NaN or infinite.
        """
        return finite(self._homes[name].read(name), self.stored[name].where)


def finite(tensor: Tensor, where: str) -> Tensor:
    """Return `tensor`. Raises `CheckpointError` if a value is NaN or infinite; `aminmax` keeps NaN in both extremes."""
    if not all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor)):
        raise CheckpointError(
            f"{where}: expected finite weights, found NaN or infinity; the file is damaged or training diverged: "
            "take another checkpoint"
        )
    return tensor


def weight_dtype(stored: Stored) -> DType:
    """The element type of a model's tensor. Raises `CheckpointError` for other types, such as quantised ones."""
    if stored.dtype not in _DTYPES.values():
        raise CheckpointError(
            f"{stored.where}: expected {', '.join(_DTYPES.values())}, found {stored.dtype}; "
            "take the weights from before they were quantised or converted"
        )
    return cast(DType, stored.dtype)


def open_weights(folder: Path) -> Tensors:
    """Open the model's tensors in `folder`: safetensors before pickles, one file before shards, as transformers does.

    Raises `CheckpointError` naming the file that is missing, cut short, or not what it should be.
    """
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        whole, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
        if whole.is_file():
            return Tensors(whole, [open_file(whole)])
        if index.is_file():
            return _open_shards(index)
    found = [path.name for path in folder.iterdir()]
    if "adapter_config.json" in found:
        raise CheckpointError(f"{folder}: expected a whole model, found an adapter; give it as an adapter to its base")
    raise CheckpointError(
        f"{folder}: expected model.safetensors, pytorch_model.bin, or one of them in shards with its .index.json; "
        f"found {some(found)}; copy the whole folder"
    )


def open_file(file: Path) -> TensorFile:
    """Open a file of tensors, by its suffix. Raises `CheckpointError` when it is incomplete."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64)
    except OSError as error:
        raise CheckpointError(f"{file}: expected weights, but it cannot be read ({error.strerror})") from error
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file}: expected weights, found a Git LFS pointer; run `git lfs pull` in its folder")
    return SafetensorsFile(file) if file.suffix == ".safetensors" else PickleFile(file)


class SafetensorsFile:
    """A safetensors file."""

    def __init__(self, file: Path) -> None:
        try:
            self._file: Any = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: expected a whole safetensors file, found {file.stat().st_size} bytes that are not ({error}); "
                f"{_AGAIN}"
            ) from error
        names = self._file.keys()  # type: ignore[no-untyped-call]
        self.stored = {name: self._stored(file, name) for name in names}

    def read(self, name: str) -> Tensor:
        """One tensor."""
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def _stored(self, file: Path, name: str) -> Stored:
        piece = self._file.get_slice(name)
        dtype = piece.get_dtype()
        return Stored(file, name, tuple(piece.get_shape()), _DTYPES.get(dtype, dtype))


class PickleFile:
    """A file of `torch.save`, holding tensors by name and nothing else."""

    def __init__(self, file: Path) -> None:
        self._tensors = _unpickle(file)
        self.stored = {
            name: Stored(file, name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor."""
        return self._tensors[name].detach()


def _unpickle(file: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"{file}: expected a whole file of torch.save (torch 1.6 or later), found {file.stat().st_size} bytes that "
            f"are not; {_AGAIN}, or save it again with a later torch"
        )
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: expected tensors alone, found objects that need the file's own code to read; "
            "take weights from a source that writes safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        raise CheckpointError(f"{file}: expected a whole file of torch.save, found {error}; {_AGAIN}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{file}: expected tensors by name, found {_kind(found)}; save the model's state alone")
    return found


def _kind(found: object) -> str:
    if not isinstance(found, dict):
        return type(found).__name__
    return some([f"{key} ({type(value).__name__})" for key, value in found.items() if not isinstance(value, Tensor)])


def _open_shards(index: Path) -> Tensors:
    places = _weight_map(index)
    files = []
    for name in sorted(set(places.values())):
        shard = index.parent / name
        if not shard.is_file():
            raise CheckpointError(
                f"{shard}: expected this shard, which {index.name} names, but it is not there; copy the whole folder"
            )
        files.append(open_file(shard))
    tensors = Tensors(index, files)
    _check_places(places, tensors, files)
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard name. Shards are plain names beside the index."""
    root = Section(index, read_json(index))
    found = root.get("weight_map")
    if not isinstance(found, dict) or not found:
        raise root.wrong("weight_map must name the shard of each tensor", found)
    for name, shard in found.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise root.wrong(f"the shard of {name} must be a file's name beside the index", shard)
    return found


def _check_places(places: Mapping[str, str], tensors: Tensors, files: list[TensorFile]) -> None:
    for name, shard in places.items():
        if not any(name in file.stored and file.stored[name].file.name == shard for file in files):
            raise CheckpointError(
                f"{tensors.origin.parent / shard}: expected tensor {name}, which {tensors.origin.name} places here, "
                f"but it is not in the file; {_AGAIN}"
            )
    for file in files:
        for name, stored in file.stored.items():
            if places.get(name) != stored.file.name:
                raise CheckpointError(
                    f"{stored.where}: not expected here; {tensors.origin.name} places it in {places.get(name)}; "
                    "shards and index are of different models: copy the whole folder again"
                )
