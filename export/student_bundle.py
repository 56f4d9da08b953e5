"""Write a trained student as a bundle: its graph, its reference, and how to read frames and scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, OperatingPoint, ReferenceCase
from edge_sdk.bundle.manifest import Student as StudentEntry
from edge_sdk.export.distil.recipe import Recipe
from edge_sdk.export.graphs.student import SCORES, Student
from edge_sdk.export.graphs.student_onnx import OPSET, StudentGraph, export_student
from edge_sdk.verify.reference_files import reference_bytes

GRAPH_FILE, REFERENCE_FILE = "student.onnx", "reference/student.safetensors"
# Allows for fp32 kernels that sum in different orders; fp16 builds have their own limits.
MAX_RELATIVE_ERROR = 1e-3


def write_student_bundle(
    out: Path,
    model: Student,
    recipe: Recipe,
    # Any: provenance is whatever a run recorded, see Manifest.provenance.
    provenance: Mapping[str, Any],
    operating_point: OperatingPoint | None = None,
) -> Bundle:
    """Export `model` and write the bundle `out`, with an operating point that calibration replaces later.

    Raises `ConfigError` when `out` exists.
    """
    pictures = recipe.pictures
    graph = export_student(model, pictures.height, pictures.width, recipe.seed)
    return write_bundle(
        out,
        name=recipe.name,
        version=recipe.version,
        graphs={"student": _entry(graph)},
        files={
            GRAPH_FILE: graph.onnx,
            REFERENCE_FILE: reference_bytes(
                {name: array.astype(np.float16) for name, array in graph.reference_inputs.items()},
                graph.reference_outputs,
            ),
        },
        student=StudentEntry(
            rate_hz=pictures.rate_hz,
            height=pictures.height,
            width=pictures.width,
            lags=pictures.lags,
            scores=SCORES,
            heat_delay_frames=recipe.targets.heat_delay_frames,
            operating_point=operating_point or OperatingPoint(),
        ),
        provenance=provenance,
    )


def _entry(graph: StudentGraph) -> Graph:
    return Graph(
        file=GRAPH_FILE,
        dialects=("native", "decomposed"),
        opset=OPSET,
        inputs=graph.inputs,
        outputs=graph.outputs,
        state=graph.state,
        reference=ReferenceCase(file=REFERENCE_FILE, max_relative_error=MAX_RELATIVE_ERROR),
    )
