"""The student of a bundle as a part: taken into a new bundle as it is, or put in the place of another one's.

Its files are a few megabytes and are copied: the bundle that it comes from stays free to change.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle.folder import Bundle, write_bundle
from edge_sdk.bundle.manifest import DemoClip, Graph, Student
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.bundle.student_origin import student_origin
from edge_sdk.bundle.student_proof import STUDENT
from edge_sdk.errors import ConfigError
from edge_sdk.files import recover

# What the provenance of a bundle tells of changes to a student that it took over.
_CHANGES = ("operating_point", "held_out", "quantise_student")


@dataclass(frozen=True)
class StudentPart:
    """The component, its graph, its files by their paths in the bundle, and the bundle that it was made in."""

    student: Student
    demo: DemoClip | None
    graphs: dict[str, Graph]
    files: dict[str, bytes]
    # Any: see Manifest.provenance.
    provenance: dict[str, Any]


def student_part(folder: Path) -> StudentPart:
    """The student of the bundle in `folder`.

    Raises `BundleError` for a bundle that is broken, `ConfigError` for one without a student.
    """
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    if manifest.student is None:
        raise ConfigError(f"--student {folder}: expected a bundle with a student, this one has none; give another")
    paths = student_files(bundle) | ({manifest.demo.video, manifest.demo.record} if manifest.demo else set())
    return StudentPart(
        student=manifest.student,
        demo=manifest.demo,
        graphs={name: manifest.graphs[name] for name in manifest.student.graphs},
        files={path: bundle.path(path).read_bytes() for path in sorted(paths)},
        provenance=student_origin(bundle),
    )


def with_student(bundle: Bundle, other: Path, out: Path) -> Bundle:
    """Write a copy of `bundle` to `out`, which must not exist, whose student is that of the bundle in `other`.

    The video LLM stays as it is, and so does the demo where there is one. Raises `ConfigError` for a bundle without a
    video LLM, and for a file of the new student that has the name of one of another kind; as `student_part`, as
    `write_bundle`.
    """
    recover(bundle.folder)
    current = Bundle.open(bundle.folder)
    old, part = current.manifest, student_part(other)
    if old.language is None:
        raise ConfigError(
            f"{bundle.folder}: expected a bundle with a video LLM, found a student alone; use {other} in its place"
        )
    gone, changed = student_files(current), {} if old.student is None else dict.fromkeys(old.student.graphs)
    files = dict(part.files)
    if old.demo and part.demo:
        files = {path: data for path, data in files.items() if path not in (part.demo.video, part.demo.record)}
    kept = {path: current.path(path) for path in old.files if path not in gone}
    if both := sorted(kept.keys() & files.keys()):
        raise ConfigError(f"{both[0]!r} belongs to the student of {other}, and to something else in {bundle.folder}")
    return write_bundle(
        out,
        name=old.name,
        version=old.version,
        graphs={name: graph for name, graph in old.graphs.items() if name not in changed} | part.graphs,
        files={**kept, **files},
        student=part.student,
        language=old.language,
        demo=old.demo or part.demo,
        provenance={key: said for key, said in old.provenance.items() if key not in _CHANGES}
        | {"student": part.provenance},
        expected={path: old.files[path] for path in kept},
    )


def student_files(bundle: Bundle) -> set[str]:
    """The paths of all that belongs to the student of `bundle`, what is told of its bits included."""
    student = bundle.manifest.student
    if student is None:
        return set()
    return graph_files(bundle, student.graphs) | ({STUDENT} & bundle.manifest.files.keys())


def graph_files(bundle: Bundle, names: Iterable[str]) -> set[str]:
    """The paths of every file that graphs are made of: themselves, their weights, their references."""
    found: set[str] = set()
    for name in names:
        graph, path = bundle.graph(name)
        found |= {graph.file, *(posixpath.join(posixpath.dirname(graph.file), p) for p in external_locations(path))}
        found |= {graph.reference.file} if graph.reference else set()
    return found
