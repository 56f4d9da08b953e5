"""Make a bundle with an 8-bit student from a bundle and clips: ranges, layers, two graphs, references, evidence."""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import ModelProto

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, ReferenceCase, Student
from edge_sdk.bundle.student_part import graph_files
from edge_sdk.bundle.student_proof import STUDENT, StudentEvidence
from edge_sdk.clips import LabelledClip
from edge_sdk.console import Progress
from edge_sdk.export.quantise.student.evidence import frame_times_ms, held_out_scores
from edge_sdk.export.quantise.student.frames import Floats, FrameLoop, SeenClip, read_clips
from edge_sdk.export.quantise.student.integers import Ranges, with_integers
from edge_sdk.export.quantise.student.layers import Layer, rounded_values, student_layers
from edge_sdk.export.quantise.student.ranges import calibrated_ranges
from edge_sdk.export.quantise.student.recipe import StudentRecipe
from edge_sdk.export.quantise.student.sensitivity import Trial, choose_layers
from edge_sdk.export.quantise.student.shared_weights import share_weights
from edge_sdk.hardware.onnx_work import graph_work
from edge_sdk.perception.recogniser import student_of
from edge_sdk.toolchain.quantising_student import StudentQuantiseReport
from edge_sdk.verify.reference_files import reference_bytes

CPU = ".cpu"
# Where a sum falls halfway between two numbers, kernels with another order of addition may round it the other way.
MAX_RELATIVE_ERROR = 0.1


@dataclass(frozen=True)
class _Made:
    """The layers in 8 bits, their ranges, and what was measured on the way."""

    model: ModelProto
    layers: tuple[Layer, ...]
    ranges: Ranges
    evidence: StudentEvidence


def run_quantise_student(
    folder: Path,
    recipe: StudentRecipe,
    clips: Sequence[tuple[Path, str]],
    out: Path,
    held_out: Sequence[LabelledClip],
    *,
    quiet: bool = False,
) -> StudentQuantiseReport:
    """Write the bundle in `folder` with its student in 8 bits to `out`; see `edge_sdk.toolchain.quantising_student`.

    `clips` are the files to calibrate on, each with its SHA-256.
    """
    bundle = Bundle.open(folder)
    student = student_of(bundle)
    graph, path = bundle.graph(student.graph)
    with Progress("clips", quiet=quiet) as progress:
        seen = read_clips([each for each, _ in clips], student, progress)
    made = _quantised(onnx.load(path), graph, seen, recipe, quiet)
    provenance = {"recipe": msgspec.to_builtins(recipe), "from": bundle.sha256, "clips": [sha for _, sha in clips]}
    written = _write(bundle, student, made, seen[0], {"quantise_student": provenance}, out, held_out, quiet)
    models = [made.model, with_integers(made.model, made.layers, made.ranges, unsigned=True)]
    before_ms, after_ms = frame_times_ms(models, graph, seen[0])
    evidence = msgspec.json.decode(written.path(STUDENT).read_bytes(), type=StudentEvidence)
    sizes = evidence.size_bytes or (0, 0)
    return StudentQuantiseReport(
        bundle=str(out),
        sha256=written.sha256,
        clips=len(clips),
        method=evidence.method,
        score_error=evidence.cpu_error,
        layers=len(made.layers),
        float_layers=tuple(layer.name for layer in evidence.layers if layer.float32),
        bytes=sizes,
        frame_ms=(before_ms, after_ms),
        held_out=evidence.held_out,
    )


def _quantised(model: ModelProto, graph: Graph, clips: Sequence[SeenClip], recipe: StudentRecipe, quiet: bool) -> _Made:
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    layers = student_layers(model)
    recipe.check([layer.name for layer in layers])
    by_method = calibrated_ranges(model, graph, clips, rounded_values(layers), recipe)
    trial = Trial(model, graph, clips)
    wanted = [layer for layer in layers if layer.name not in recipe.float_layers]
    errors: dict[str, float] = {method: trial.worst(wanted, ranges) for method, ranges in by_method.items()}
    method, ranges = min(by_method.items(), key=lambda each: errors[each[0]])
    with Progress("layers", quiet=quiet) as progress:
        chosen, choices = choose_layers(trial, layers, ranges, recipe, progress)
    evidence = StudentEvidence(
        recipe=recipe.name,
        method=method,
        method_errors=errors,
        signed_error=trial.error(chosen, ranges, unsigned=False),
        cpu_error=trial.error(chosen, ranges),
        layers=choices,
    )
    return _Made(model, chosen, ranges, evidence)


def _write(
    bundle: Bundle,
    student: Student,
    made: _Made,
    clip: SeenClip,
    provenance: dict[str, object],
    out: Path,
    held_out: Sequence[LabelledClip],
    quiet: bool,
) -> Bundle:
    """Write the bundle with both graphs to `out`; with `held_out`, score it first and include the results."""
    old, graph = bundle.manifest, bundle.manifest.graphs[student.graph]
    gone = graph_files(bundle, student.graphs)
    graphs, files = _graphs(student.graph, graph, made, _reference_inputs(made.model, graph, clip))
    references = {each.reference.file for each in graphs.values() if each.reference}
    stored = {path: data for path, data in files.items() if path not in references}
    measured = _told(bundle, student, made.evidence, stored)

    def write(folder: Path, evidence: StudentEvidence) -> Bundle:
        told = msgspec.json.format(msgspec.json.encode(evidence)) + b"\n"
        return write_bundle(
            folder,
            name=old.name,
            version=old.version,
            graphs={name: each for name, each in old.graphs.items() if name not in student.graphs} | graphs,
            files={path: bundle.path(path) for path in old.files if path not in gone} | files | {STUDENT: told},
            student=msgspec.structs.replace(student, cpu_graph=student.graph + CPU),
            language=old.language,
            demo=old.demo,
            provenance=old.provenance | provenance,
            # The old time is kept, so that the same clips give the same bytes.
            created_utc=old.created_utc,
        )

    if not held_out:
        return write(out, measured)
    with tempfile.TemporaryDirectory() as scratch, Progress("held-out clips", quiet=quiet) as progress:
        draft = write(Path(scratch) / "draft", measured)
        found = held_out_scores(bundle, draft, held_out, progress)
    return write(out, msgspec.structs.replace(measured, held_out=found))


def _told(bundle: Bundle, student: Student, evidence: StudentEvidence, stored: dict[str, bytes]) -> StudentEvidence:
    """`evidence` with sizes before and after, and with digests of the graphs and weights `stored` it belongs to."""
    return msgspec.structs.replace(
        evidence,
        float_activation_bytes=graph_work(bundle.graph(student.graph)[1]).activation_bytes,
        size_bytes=(_graph_bytes(bundle, [student.graph]), sum(len(data) for data in stored.values())),
        files={path: hashlib.sha256(data).hexdigest() for path, data in sorted(stored.items())},
    )


def _graphs(
    name: str, graph: Graph, made: _Made, inputs: dict[str, Floats]
) -> tuple[dict[str, Graph], dict[str, bytes]]:
    """Both graphs' manifest entries, and their files: the graphs, their shared weights, and a reference for each."""
    names = {name: False, name + CPU: True}
    models = {key: with_integers(made.model, made.layers, made.ranges, unsigned=each) for key, each in names.items()}
    place = posixpath.dirname(graph.file)
    weights = f"{posixpath.splitext(posixpath.basename(graph.file))[0]}.weights"
    shared, found = share_weights(list(models.values()), weights)
    files = {posixpath.join(place, weights): shared}
    entries = {}
    for (key, model), stored in zip(models.items(), found, strict=True):
        file, reference = posixpath.join(place, f"{key}.onnx"), f"reference/{key}.safetensors"
        outputs = FrameLoop(model, graph, plainly=True).run(inputs)
        files |= {file: stored, reference: reference_bytes(inputs, outputs)}
        entries[key] = msgspec.structs.replace(
            graph,
            file=file,
            dialects=() if names[key] else graph.dialects,
            reference=ReferenceCase(file=reference, max_relative_error=MAX_RELATIVE_ERROR),
        )
    return entries, files


def _reference_inputs(model: ModelProto, graph: Graph, clip: SeenClip) -> dict[str, Floats]:
    """The student's inputs in the middle of a clip, as numbers that float16 can hold."""
    given = [feeds for feeds, _ in FrameLoop(model, graph).walk(clip)]
    return {name: array.astype(np.float16).astype(np.float32) for name, array in given[len(given) // 2].items()}


def _graph_bytes(bundle: Bundle, names: Sequence[str]) -> int:
    files = graph_files(bundle, names) - {
        graph.reference.file for graph in bundle.manifest.graphs.values() if graph.reference
    }
    return sum(bundle.manifest.files[file].size_bytes for file in files)
