"""Engines on disk: what each was built from, what it was built for, and where it is stored.

An engine is valid for one graph with one set of weights, one version of TensorRT and one kind of GPU. Anywhere else it
is refused at best and gives wrong results at worst. So its name is a digest of all of these, and a record beside it
lets an error say what differs when no engine fits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_sdk.bundle.manifest import Manifest
from edge_sdk.bundle.manifest_text import MANIFEST_NAME, read_manifest
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.engine.shapes import ShapeProfile
from edge_sdk.engine.tensorrt_library import Flavour
from edge_sdk.errors import BundleError, EngineError
from edge_sdk.files import (
    atomic_path,
    is_plain_name,
    remove_half_written_files,
    sha256_of,
    sync,
    write_json,
)
from edge_sdk.types import Value

_DIGEST_LETTERS = 16
SUFFIX, RECORD_SUFFIX = ".engine", ".json"
# What TensorRT-RTX compiled on the device when the engine was first used.
KERNELS_SUFFIX = ".kernels"
# An engine that gave wrong outputs: kept for a report to NVIDIA, never opened.
WRONG_SUFFIX = ".wrong"

BUILDER_REVISION = 1
"""Raise it when the SDK's own build settings change, such as strong typing; engines of other revisions are refused."""


_DIFFERENCES = {
    "weights_sha256": "the weights have changed",
    "flavour": "built by runtime {}, needed for {}",
    "version": "built by version {}, here is {}",
    "sm": "built for sm_{}, here is sm_{}",
    "multiprocessors": "built for {} multiprocessors, here are {}: another board, or another power mode",
    "driver": "built under driver {}, here is {}",
    "revision": "built by revision {} of this SDK's builder, here is {}",
}


class EngineKey(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that decides whether an engine may be used.

    `graph_sha256` is the hash of the ONNX file, `weights_sha256` that of its weight files in order of their names. `sm`
    is the GPU's compute capability, such as 87; None for an engine that its runtime finishes compiling on any GPU.
    `driver` is the version of the CUDA driver and `multiprocessors` the GPU's number of multiprocessors; both are None
    for an engine built without a GPU. If only `multiprocessors` is None, the count was not recorded. `revision` stands
    for the build settings that are fixed in the SDK; records without it are of the first.
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
    multiprocessors: int | None = None
    revision: int = 1

    @property
    def digest(self) -> str:
        """The name of the engine: 16 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:_DIGEST_LETTERS]


class Wanted(Value, frozen=True, kw_only=True):
    """What a device needs an engine for: the graph's files, and the device's TensorRT, GPU and driver.

    `graph` is the graph's name for `edge-sdk build`.
    """

    graph: str
    graph_sha256: str
    weights_sha256: str
    flavour: Flavour
    version: str
    sm: int
    multiprocessors: int
    driver: str
    revision: int = BUILDER_REVISION

    def differences(self, key: EngineKey) -> Iterator[str]:
        """Yield in words why the engine of `key`, built for this graph, cannot be used; nothing if it fits."""
        anywhere = {"sm", "driver"} if key.driver else {"sm", "driver", "multiprocessors"}
        for field, words in _DIFFERENCES.items():
            built, here = getattr(key, field), getattr(self, field)
            if built != here and not (built is None and field in anywhere):
                yield words.format("an unknown number of" if built is None else built, here)


class EngineRecord(Value, frozen=True, kw_only=True):
    """The record stored beside an engine.

    `verified`: on this device the engine gave the bundle's reference outputs. `chosen` is higher than that of every
    engine for the same graph that was built or chosen earlier; it is a counter because the clocks of boards jump.
    `slow_attention`: TensorRT built the graph only with its attention in smaller steps, which is slower.
    """

    key: EngineKey
    sha256: str
    size_bytes: int
    built_utc: str
    build_s: float
    verified: bool = False
    chosen: int = 0
    slow_attention: bool = False

    @property
    def turn(self) -> tuple[int, str]:
        """Sort key: rises from the engine chosen first to the engine chosen last."""
        return self.chosen, self.built_utc


class EngineCache:
    """A folder of engines. Several processes may use it, because files are written completely or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: EngineKey) -> Path | None:
        """Return the engine for `key`, its size and hash checked; None if there is none.

        Raises `EngineError` for an engine whose bytes differ from those written.
        """
        path = self._path(key)
        record = self._record(path)
        if record is None or record.key != key or not path.is_file():
            return None
        found = path.stat().st_size
        if found != record.size_bytes or sha256_of(path) != record.sha256:
            raise EngineError(
                f"{path}: expected {record.size_bytes} bytes with SHA-256 {record.sha256[:12]}…, found {found} bytes "
                f"that differ; build it again: edge-sdk build --bundle BUNDLE --runtime {key.flavour} "
                f"--graph {key.graph} --rebuild"
            )
        return path

    # bytes or any buffer: TensorRT returns memory of its own.
    def write(
        self,
        key: EngineKey,
        engine: bytes | memoryview,
        *,
        built_utc: str,
        build_s: float,
        slow_attention: bool = False,
    ) -> Path:
        """Write an engine and its record, each completely or not at all, choose it, and return the engine's path.

        An existing engine for `key` is replaced once the new one is on disk; its cached kernels and an engine that was
        set aside are removed.
        """
        path = self._path(key)
        self._sweep()
        with atomic_path(path) as stage:
            stage.write_bytes(engine)
            digest, size = sha256_of(stage), stage.stat().st_size
            sync(stage)
            # Without a record an engine counts as absent; beside the old engine's record it would count as damaged.
            for suffix in (RECORD_SUFFIX, KERNELS_SUFFIX, WRONG_SUFFIX):
                path.with_suffix(suffix).unlink(missing_ok=True)
        record = EngineRecord(
            key=key,
            sha256=digest,
            size_bytes=size,
            built_utc=built_utc,
            build_s=build_s,
            chosen=self._next_turn(key),
            slow_attention=slow_attention,
        )
        self._write_record(path, record)
        return path

    def choose(self, key: EngineKey) -> None:
        """Record that a device should open the engine for `key`, if it fits, before other engines for its graph."""
        path, turn = self._path(key), self._next_turn(key)
        record = self._record(path)
        if record is not None and record.chosen < turn:
            self._write_record(path, msgspec.structs.replace(record, chosen=turn))

    def mark_verified(self, key: EngineKey) -> None:
        """Record that the engine for `key` gave the bundle's reference outputs on this device."""
        path = self._path(key)
        record = self._record(path)
        if record is not None:
            self._write_record(path, msgspec.structs.replace(record, verified=True))

    def set_aside(self, key: EngineKey) -> Path:
        """Rename the engine for `key` so that nothing opens it, delete the files beside it, and return its new path."""
        path = self._path(key)
        for suffix in (RECORD_SUFFIX, KERNELS_SUFFIX):
            path.with_suffix(suffix).unlink(missing_ok=True)
        return path.replace(path.with_suffix(WRONG_SUFFIX))

    def record(self, key: EngineKey) -> EngineRecord | None:
        """Return the record of the engine for `key`; None if there is none."""
        return self._record(self._path(key))

    def records(self) -> Iterator[EngineRecord]:
        """Yield the record of every engine that has a matching one, in order of file names."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            record = self._record(path)
            if record is not None and path.name == _file_name(record.key):
                yield record

    def usable(self, wanted: Wanted, digest: str | None = None) -> tuple[Path, EngineRecord]:
        """Return the most recently chosen engine that fits `wanted`, its size and hash checked, and its record.

        If `digest` is given, only the engine of that name may be returned. Raises `EngineError` with the text of
        `why_none`.
        """
        for record in self._fitting(wanted, digest):
            path = self.find(record.key)
            if path is not None:
                return path, record
        raise EngineError(self._why_none(wanted, digest))

    def why_none(self, wanted: Wanted, digest: str | None = None) -> str | None:
        """Say what differs in the nearest engine for the graph, or that there is none, and what to do.

        Returns None if an engine fits; its bytes are not checked.
        """
        return None if self._fitting(wanted, digest) else self._why_none(wanted, digest)

    def _fitting(self, wanted: Wanted, digest: str | None) -> list[EngineRecord]:
        """Return the engines that fit `wanted`, most recently chosen first."""
        found = [each for each in self._of_graph(wanted.graph_sha256, digest) if not any(wanted.differences(each.key))]
        return sorted(found, key=lambda record: record.turn, reverse=True)

    def _of_graph(self, graph_sha256: str, digest: str | None = None) -> list[EngineRecord]:
        found = [record for record in self.records() if record.key.graph_sha256 == graph_sha256]
        return [record for record in found if digest in (None, record.key.digest)]

    def _why_none(self, wanted: Wanted, digest: str | None) -> str:
        # Unless --graph is given, a build makes only one of the decoders that share their weights.
        beside = [record for record in self.records() if record.key.weights_sha256 == wanted.weights_sha256]
        run = "edge-sdk build --bundle BUNDLE"
        if any(record.key.graph_sha256 != wanted.graph_sha256 for record in beside):
            run += f" --graph {wanted.graph}"
        found = self._of_graph(wanted.graph_sha256, digest)
        if not found:
            return f"no engine for the graph {wanted.graph!r} is in {self.folder}; run: {run}"
        nearest = min(found, key=lambda record: len(list(wanted.differences(record.key))))
        told = "; ".join(wanted.differences(nearest.key))
        return f"the engine for {nearest.key.graph!r} in {self.folder} does not fit ({told}); run: {run}"

    def _path(self, key: EngineKey) -> Path:
        """Return the path of the engine for `key`.

        Raises `EngineError` for a graph whose name would lead outside the folder.
        """
        if not is_plain_name(key.graph):
            raise EngineError(
                f"expected a graph's name of letters, digits, '.', '_' and '-', found {key.graph!r}; an engine's file "
                "is named after its graph, so give the graph another name"
            )
        return self.folder / _file_name(key)

    def _next_turn(self, key: EngineKey) -> int:
        """Return a turn above those of all other engines for the same graph."""
        others = [each.chosen for each in self._of_graph(key.graph_sha256) if each.key != key]
        return 1 + max(others, default=0)

    def _sweep(self) -> None:
        """Remove half-written files of killed builds, which may be gigabytes."""
        if self.folder.is_dir():
            remove_half_written_files(self.folder)

    def _record(self, path: Path) -> EngineRecord | None:
        try:
            return msgspec.json.decode(path.with_suffix(RECORD_SUFFIX).read_bytes(), type=EngineRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def _write_record(self, path: Path, record: EngineRecord) -> None:
        write_json(path.with_suffix(RECORD_SUFFIX), record)


def _file_name(key: EngineKey) -> str:
    return f"{key.graph}.{key.digest}{SUFFIX}"


def default_cache() -> EngineCache:
    """Return the user's cache: `$XDG_CACHE_HOME/edge-sdk/engines`, by default below `~/.cache`.

    A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification requires.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return EngineCache((home if home.is_absolute() else Path.home() / ".cache") / "edge-sdk" / "engines")


def graph_hashes(path: Path) -> tuple[str, str]:
    """Return the SHA-256 of an ONNX file, and of the weight files beside it.

    Gigabytes of weights inside a bundle are not read again: its manifest has their hashes, and opening the bundle has
    checked them.
    """
    names = sorted(external_locations(path))
    known = _vouched(path.parent)
    combined = hashlib.sha256()
    for name in names:
        place = (path.parent / name).resolve()
        combined.update(f"{name}\0{known.get(place) or sha256_of(place)}\n".encode())
    return sha256_of(path), combined.hexdigest()


def graph_name(path: Path) -> str:
    """Return the graph's name in the bundle that contains the ONNX file, or else the file's own name."""
    found = _bundle_around(path.parent)
    if found is not None:
        folder, manifest = found
        for name, graph in manifest.graphs.items():
            if (folder / graph.file).resolve() == path.resolve():
                return name
    return path.stem


def _vouched(folder: Path) -> dict[Path, str]:
    """Return SHA-256 by path from the manifest of the bundle that contains `folder`; empty outside a bundle."""
    found = _bundle_around(folder)
    if found is None:
        return {}
    root, manifest = found
    return {(root / path).resolve(): entry.sha256 for path, entry in manifest.files.items()}


def _bundle_around(folder: Path) -> tuple[Path, Manifest] | None:
    """Return the root and the manifest of the bundle that contains `folder`; None outside a readable bundle."""
    for parent in (folder, *folder.parents):
        if (parent / MANIFEST_NAME).is_file():
            try:
                return parent, read_manifest(parent)[0]
            except BundleError:
                return None
    return None
