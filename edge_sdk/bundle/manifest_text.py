"""The text of a manifest: read as untrusted input, written in one canonical form.

A manifest is as untrusted as the bundle it came with. Its size is bounded before it is read, keys may not repeat
(readers could disagree about which counts), and every path is checked as text before the disk is touched. Writing is
deterministic, and the digest is taken over the written form. Reformatting therefore does not change the digest, and
`sha256sum manifest.json` prints the digest of a bundle that this SDK wrote.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np

from edge_sdk.bundle.manifest import MAX_STREAM_BYTES, SCHEMA, Graph, Manifest
from edge_sdk.bundle.manifest_language import files_of, named_in
from edge_sdk.errors import (
    BundleKeyError,
    BundleMissingFileError,
    BundleNameError,
    BundlePathError,
    BundleSchemaError,
    BundleUnreadableError,
)
from edge_sdk.files import is_plain_name
from edge_sdk.tensors import state_problem
from edge_sdk.types import TensorSpec

MANIFEST_NAME = "manifest.json"
# The manifest's signature lies beside the manifest and is not listed in it: the manifest would have to sign itself.
SIGNATURE_NAME = "manifest.sig"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
GRAPH_SUFFIX = ".onnx"
# ONNX Runtime does not read a weight location with this tag as a file: offset and length address its own memory.
_MEMORY_TAG = "_ORT_MEM_ADDR_"
_BFLOAT16_BYTES = 2
# Larger sizes are reported as this one: a shape may hold numbers that Python refuses to print.
_MOST_TOLD_BYTES = 10**18


def read_manifest(folder: Path, admit: Callable[[bytes, str], object] | None = None) -> tuple[Manifest, str]:
    """Read the manifest in `folder`, run every check that needs no other file, and return it with its SHA-256.

    The SHA-256 is that of the canonical text. `admit` receives the manifest's bytes and this digest before the content
    is interpreted, and may raise. Raises `BundleMissingFileError`, `BundleUnreadableError`, `BundleKeyError`,
    `BundleSchemaError`, `BundleNameError` or `BundlePathError`.
    """
    source = folder / MANIFEST_NAME
    raw = _read_bounded(source)
    document = _parse(source, raw)
    try:
        digest = hashlib.sha256(_canonical_text(document).encode()).hexdigest()
    except (ValueError, RecursionError) as error:
        raise BundleKeyError(f"{source}: {error}") from error
    if admit is not None:
        admit(raw, digest)
    _check_schema(source, document)
    try:
        manifest = msgspec.convert(document, Manifest)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise BundleKeyError(f"{source}: {error}") from error
    _check_references(source, manifest)
    return manifest, digest


def manifest_text(manifest: Manifest) -> str:
    """Return a manifest's canonical text. Raises `BundleKeyError` for a value that UTF-8 JSON cannot hold, as NaN."""
    try:
        text = _canonical_text(msgspec.to_builtins(manifest))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleKeyError(f"the manifest cannot be written as JSON: {error}") from error
    return text


# Any: a parsed JSON document, before its shape is known.
def _canonical_text(document: Any) -> str:
    """Encode JSON with sorted keys, an indent of two spaces, unescaped UTF-8 and a final newline."""
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _check_schema(source: Path, document: Any) -> None:
    """Refuse a manifest of another schema before its keys are checked against this one."""
    if not isinstance(document, dict):
        raise BundleKeyError(f"{source}: expected a JSON object, found {type(document).__name__}")
    schema = document.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise BundleKeyError(f"{source}: `$.schema` must be an integer, found {schema!r}")
    if schema > SCHEMA:
        raise BundleSchemaError(
            f"{source}: schema {schema} is newer than this SDK reads (up to {SCHEMA}); install the "
            "wheel of the SDK that made it, or make the bundle with this SDK"
        )
    if schema < 1:
        raise BundleSchemaError(f"{source}: schema {schema} does not exist, the first is 1; make the bundle again")


def check_path(source: Path, where: str, path: str) -> None:
    """Raise `BundlePathError` unless `path` is relative and has only plain names, so that it stays in its folder."""
    reason = _path_problem(path)
    if reason:
        raise BundlePathError(
            f"{source}: {where}: the path {path!r} {reason}; paths are relative to the bundle's folder"
        )


def check_file_path(source: Path, path: str) -> None:
    """Raise `BundlePathError` unless `path` may be one of `$.files`."""
    check_path(source, "$.files", path)
    if path in (MANIFEST_NAME, SIGNATURE_NAME):
        raise BundlePathError(
            f"{source}: $.files: {MANIFEST_NAME} cannot list itself or its signature, found {path!r}; remove that entry"
        )


def _check_references(source: Path, manifest: Manifest) -> None:
    """Check that paths stay inside, that every file mentioned is listed, and that every name refers to an entry.

    Graph names must be plain, because they become part of the file names of engines.
    """
    for name in manifest.graphs:
        if not is_plain_name(name):
            raise BundleNameError(
                f"{source}: $.graphs: expected names of letters, digits, '.', '_' and '-' that start with a letter or "
                f"digit, found {name!r}; give that graph another name"
            )
    for path in manifest.files:
        check_file_path(source, path)
    for where, path in _mentioned(manifest):
        check_path(source, where, path)
        if path not in manifest.files:
            raise BundleKeyError(f"{source}: {where}: {path!r} is not in $.files; make the bundle again")
    for name, graph in manifest.graphs.items():
        if not graph.file.endswith(GRAPH_SUFFIX):
            raise BundlePathError(
                f"{source}: $.graphs.{name}.file: expected a file that ends in {GRAPH_SUFFIX}, found {graph.file!r}; "
                "some runtimes tell the format from the name, so export the graph as ONNX with such a name"
            )
        _check_tensors(f"{source}: $.graphs.{name}", graph)
    for where, name, known in _named(manifest):
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise BundleKeyError(f"{source}: {where}: unknown name {name!r}; known: {listed}")
    _check_memory(source, manifest)


def _read_bounded(source: Path) -> bytes:
    if not source.is_file() or source.is_symlink():
        folder = source.parent
        if not folder.exists():
            raise BundleUnreadableError(
                f"{folder} is not a bundle: there is no such folder; give the folder of a bundle"
            )
        why = "it is a file, and a bundle is a folder"
        if folder.is_dir():
            why = f"it holds no regular file {MANIFEST_NAME}"
        raise BundleMissingFileError(f"{folder} is not a bundle: {why}; give the folder of a bundle")
    with source.open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleKeyError(f"{source}: expected a manifest of at most {MAX_MANIFEST_BYTES} bytes, found more")
    return raw


def _parse(source: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleKeyError(f"{source}: expected a JSON document, but it cannot be read: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return document


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _path_problem(path: str) -> str | None:
    parts = path.split("/")
    if _MEMORY_TAG in path:
        return f"has {_MEMORY_TAG!r}, which stands for an address in memory"
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leaves the folder"
    if not all(is_plain_name(part) for part in parts):
        return "has a part that is not made of letters, digits, '.', '_' and '-', starting with a letter or digit"
    return None


def _mentioned(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name, graph in manifest.graphs.items():
        yield f"$.graphs.{name}.file", graph.file
        if graph.reference:
            yield f"$.graphs.{name}.reference.file", graph.reference.file
            if graph.reference.inputs_from:
                yield f"$.graphs.{name}.reference.inputs_from", graph.reference.inputs_from
    if manifest.demo:
        yield "$.demo.video", manifest.demo.video
        yield "$.demo.record", manifest.demo.record
    if manifest.language:
        yield from files_of(manifest.language)


def _named(manifest: Manifest) -> Iterator[tuple[str, str, Collection[str]]]:
    """Yield every name that refers to another entry, as (place in the manifest, name, known names)."""
    if manifest.student:
        yield "$.student.graph", manifest.student.graph, manifest.graphs
        if manifest.student.cpu_graph is not None:
            yield "$.student.cpu_graph", manifest.student.cpu_graph, manifest.graphs
    if manifest.language:
        yield from named_in(manifest.language, manifest.graphs)


def _check_tensors(where: str, graph: Graph) -> None:
    for kind, specs in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise BundleKeyError(f"{where}.{kind}: a name appears twice: {', '.join(names)}")
    problem = state_problem(graph.inputs, graph.outputs, graph.state)
    if problem:
        raise BundleKeyError(f"{where}.state: {problem}")


def _check_memory(source: Path, manifest: Manifest) -> None:
    """Refuse a student whose frames and state would take more memory than any stream needs."""
    student = manifest.student
    if student is None:
        return
    for name in student.graphs:
        graph = manifest.graphs[name]
        carried = {entry.input for entry in graph.state}
        held = student.picture_bytes + sum(_size_bytes(spec) for spec in graph.inputs if spec.name in carried)
        if held > MAX_STREAM_BYTES:
            raise BundleKeyError(
                f"{source}: $.student: expected at most {MAX_STREAM_BYTES / 1e9:g} GB of pictures and state for a "
                f"stream, found {min(held, _MOST_TOLD_BYTES) / 1e9:.6g} GB with the graph {name!r}; lower `height`, "
                "`width`, `lags` or the shapes of the state"
            )


def _size_bytes(spec: TensorSpec) -> int:
    """Return the bytes of a tensor for one stream; a free dimension counts as 1."""
    # numpy has no bfloat16
    each = _BFLOAT16_BYTES if spec.dtype == "bfloat16" else np.dtype(spec.dtype).itemsize
    return each * math.prod(length for length in spec.shape if isinstance(length, int))
