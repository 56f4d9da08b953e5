"""The student of a bundle as a part, to add to a new bundle or to replace another bundle's student.

Its files are a few megabytes and are copied, so the bundle that it comes from may change afterwards.
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

# Provenance keys about changes to a student that a bundle took over.
_CHANGES = ("operating_point", "held_out", "quantise_student")


@dataclass(frozen=True)
class StudentPart:
    """The student component, its demo, graphs and files by path in the bundle, and its origin (`student_origin`)."""

    student: Student
    demo: DemoClip | None
    graphs: dict[str, Graph]
    files: dict[str, bytes]
    # Any: see Manifest.provenance.
    provenance: dict[str, Any]


def student_part(folder: Path) -> StudentPart:
    """Read the student of the bundle in `folder`.

    Raises `BundleError` for a broken bundle, `ConfigError` for one without a student.
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
    """Write a copy of `bundle` to `out`, which must not exist, with the student of the bundle in `other`.

    The video LLM stays as it is, and so does the demo if there is one. Raises `ConfigError` for a bundle without a
    video LLM, and if a file of the new student has the path of another part's file; also what `student_part` and
    `write_bundle` raise.
    """
    recover(bundle.folder)
    current = Bundle.open(bundle.folder)
    old, part = current.manifest, student_part(other)
    if old.language is None:
        raise ConfigError(
            f"{bundle.folder}: expected a bundle with a video LLM, found only a student; use {other} instead"
        )
    gone, changed = student_files(current), {} if old.student is None else dict.fromkeys(old.student.graphs)
    files = dict(part.files)
    if old.demo and part.demo:
        files = {path: data for path, data in files.items() if path not in (part.demo.video, part.demo.record)}
    kept = {path: current.path(path) for path in old.files if path not in gone}
    if both := sorted(kept.keys() & files.keys()):
        raise ConfigError(f"the student of {other} has a file {both[0]!r}, but {bundle.folder} has another one")
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
    """Return the paths of all files of the student of `bundle`, including the proof of its quantisation."""
    student = bundle.manifest.student
    if student is None:
        return set()
    return graph_files(bundle, student.graphs) | ({STUDENT} & bundle.manifest.files.keys())


def graph_files(bundle: Bundle, names: Iterable[str]) -> set[str]:
    """Return the paths of all files of the graphs `names`: ONNX files, weights and references."""
    found: set[str] = set()
    for name in names:
        graph, path = bundle.graph(name)
        found |= {graph.file, *(posixpath.join(posixpath.dirname(graph.file), p) for p in external_locations(path))}
        found |= {graph.reference.file} if graph.reference else set()
    return found
