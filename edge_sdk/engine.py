"""Engines on disk: what one was built from and for, and where it lies.

An engine is right for one graph with one set of weights, one version of TensorRT and one kind of GPU; elsewhere it is
refused at best and wrong at worst. So its name is a digest of all of that, and a record beside it says in words what
differs when none fits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_sdk.engine_shapes import ShapeProfile
from edge_sdk.errors import BundleError, EngineError
from edge_sdk.files import atomic_path, write_bytes
from edge_sdk.manifest_text import MANIFEST_NAME, read_manifest
from edge_sdk.onnx_file import external_locations
from edge_sdk.tensorrt_library import Flavour
from edge_sdk.types import Value

_CHUNK_BYTES = 1 << 20
_DIGEST_LETTERS = 16
SUFFIX, RECORD_SUFFIX = ".engine", ".json"


class EngineKey(Value, frozen=True, kw_only=True):
    """All that decides whether an engine may be used.

    `graph_sha256` is of the ONNX file, `weights_sha256` of its weight files in the order of their names. `sm` is the
    GPU's compute capability such as 87, None for an engine that its runtime finishes on any GPU; `driver` is the CUDA
    driver's version, None for one that was built without a GPU.
    """

    graph: str
    graph_sha256: str
    weights_sha256: str
    flavour: Flavour
    version: str
    sm: int | None
    driver: str | None
    precision: str
    profiles: tuple[ShapeProfile, ...]
    level: int

    @property
    def digest(self) -> str:
        """The name of the engine: 16 hexadecimal letters."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:_DIGEST_LETTERS]


class EngineRecord(Value, frozen=True, kw_only=True):
    """What stands beside an engine. `verified`: its outputs were compared with the bundle's on this device."""

    key: EngineKey
    sha256: str
    size_bytes: int
    built_utc: str
    build_s: float
    verified: bool = False


class EngineCache:
    """A folder of engines. Several processes may use it: whatever is in it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: EngineKey) -> Path | None:
        """The engine for `key`, checked to the last byte; None when there is none.

        Raises `EngineError` for an engine whose bytes are not those that were written.
        """
        path = self._path(key)
        record = self._record(path)
        if record is None or record.key != key:
            return None
        found = path.stat().st_size
        if found != record.size_bytes or file_sha256(path) != record.sha256:
            raise EngineError(
                f"{path}: expected {record.size_bytes} bytes with SHA-256 {record.sha256[:12]}…, found {found} bytes "
                f"that differ; delete it and build again: edge-sdk build"
            )
        return path

    # bytes or any buffer: TensorRT hands out memory of its own.
    def write(self, key: EngineKey, engine: bytes | memoryview, *, built_utc: str, build_s: float) -> Path:
        """Write an engine and its record, each whole or not at all; returns the engine's path."""
        path = self._path(key)
        with atomic_path(path) as stage:
            stage.write_bytes(engine)
            digest, size = file_sha256(stage), stage.stat().st_size
        self._write_record(
            path, EngineRecord(key=key, sha256=digest, size_bytes=size, built_utc=built_utc, build_s=build_s)
        )
        return path

    def mark_verified(self, key: EngineKey) -> None:
        """Note that the engine for `key` gave the bundle's reference outputs on this device."""
        path = self._path(key)
        record = self._record(path)
        if record is not None:
            self._write_record(path, msgspec.structs.replace(record, verified=True))

    def remove(self, key: EngineKey) -> None:
        """Delete the engine for `key`, its record first."""
        path = self._path(key)
        path.with_suffix(RECORD_SUFFIX).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def records(self) -> Iterator[EngineRecord]:
        """Every engine that is there with its record, by name."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            record = self._record(path)
            if record is not None:
                yield record

    def why_none(self, key: EngineKey) -> str:
        """Why no engine here is for `key`, in words: what differs in the nearest one."""
        others = [record.key for record in self.records() if record.key.graph == key.graph]
        if not others:
            return f"no engine for the graph {key.graph!r} is in {self.folder}; run: edge-sdk build"
        nearest = min(others, key=lambda other: len(list(_differences(other, key))))
        told = "; ".join(_differences(nearest, key))
        return f"the engine for {key.graph!r} in {self.folder} is for something else ({told}); run: edge-sdk build"

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.graph}.{key.digest}{SUFFIX}"

    def _record(self, path: Path) -> EngineRecord | None:
        try:
            return msgspec.json.decode(path.with_suffix(RECORD_SUFFIX).read_bytes(), type=EngineRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def _write_record(self, path: Path, record: EngineRecord) -> None:
        write_bytes(path.with_suffix(RECORD_SUFFIX), msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def default_cache() -> EngineCache:
    """The user's cache: `$XDG_CACHE_HOME/edge-sdk/engines`, by default below `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return EngineCache(Path(home) / "edge-sdk" / "engines")


def graph_hashes(path: Path) -> tuple[str, str]:
    """SHA-256 of an ONNX file, and of the weight files beside it.

    Weights of gigabytes are not read again when the bundle around them vouches for them: its manifest has their hashes,
    and opening the bundle has checked them.
    """
    names = sorted(external_locations(path))
    known = _vouched(path.parent)
    combined = hashlib.sha256()
    for name in names:
        place = (path.parent / name).resolve()
        combined.update(f"{name}\0{known.get(place) or file_sha256(place)}\n".encode())
    return file_sha256(path), combined.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _vouched(folder: Path) -> dict[Path, str]:
    """SHA-256 by path, from the manifest of the bundle that `folder` belongs to; empty outside a bundle."""
    for parent in (folder, *folder.parents):
        if (parent / MANIFEST_NAME).is_file():
            try:
                manifest, _ = read_manifest(parent)
            except BundleError:
                return {}
            return {(parent / path).resolve(): entry.sha256 for path, entry in manifest.files.items()}
    return {}


def _differences(found: EngineKey, wanted: EngineKey) -> Iterator[str]:
    for field in msgspec.structs.fields(EngineKey):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        if a != b:
            yield _WORDS[field.name].format(a, b)


_WORDS = {
    "graph": "another graph",
    "graph_sha256": "the graph has changed",
    "weights_sha256": "the weights have changed",
    "flavour": "built by {}, wanted by {}",
    "version": "built by version {}, here is {}",
    "sm": "built for sm_{}, here is sm_{}",
    "driver": "built under driver {}, here is {}",
    "precision": "precision {}, wanted {}",
    "profiles": "other shape profiles",
    "level": "optimisation level {}, wanted {}",
}
