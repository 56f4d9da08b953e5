"""The student of another bundle, to be taken into a new one as it is.

Its files are a few megabytes and are copied: the other bundle stays free to change.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import DemoClip, Graph, Student
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.bundle.student_origin import student_origin
from edge_sdk.bundle.student_proof import STUDENT
from edge_sdk.errors import ConfigError


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
    graphs, paths = {}, list[str]()
    for name in manifest.student.graphs:
        graph, onnx = bundle.graph(name)
        graphs[name] = graph
        paths.append(graph.file)
        paths += [posixpath.join(posixpath.dirname(graph.file), location) for location in external_locations(onnx)]
        paths += [graph.reference.file] if graph.reference else []
    paths += [STUDENT] if STUDENT in manifest.files else []
    paths += [manifest.demo.video, manifest.demo.record] if manifest.demo else []
    return StudentPart(
        student=manifest.student,
        demo=manifest.demo,
        graphs=graphs,
        files={path: bundle.path(path).read_bytes() for path in paths},
        provenance=student_origin(bundle),
    )
