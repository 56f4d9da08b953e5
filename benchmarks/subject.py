"""What is measured: the student's model, the file that the runtime opened, and the numbers that it computes with."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.benchmarks.conditions import commit
from edge_sdk.benchmarks.report import Subject
from edge_sdk.bundle import Bundle
from edge_sdk.bundle.onnx_file import external_locations
from edge_sdk.engine.cache import EngineRecord, default_cache
from edge_sdk.hardware.bundled import student_precision
from edge_sdk.perception.recogniser import Recogniser, student_of

# These runtimes compute on the GPU whatever their options say.
GPU_RUNTIMES = frozenset({"trt", "rtx"})
# What ONNX Runtime computes with on each device; its sessions refuse to open with anything else.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider, CPUExecutionProvider"}


def on_gpu(runtime: str, device: str) -> bool:
    """Whether `runtime` computes on a GPU for this `SessionOptions.device`."""
    return runtime in GPU_RUNTIMES or device != "cpu"


def used_versions(versions: dict[str, str], device: str) -> dict[str, str]:
    """A runtime's description, with the execution providers that compute in place of those that are installed."""
    used = {"providers": PROVIDERS[device]} if "providers" in versions and device in PROVIDERS else {}
    return versions | used


def subject_of(bundle: Bundle, recogniser: Recogniser, ran_on: str) -> Subject:
    """Describe the measured student of `bundle`, which `recogniser` opened; `ran_on` names the runtime and device."""
    student = student_of(bundle)
    graph, _ = bundle.graph(student.graph)
    engine = _engine(recogniser)
    precision = {"student": str(student_precision(student))} | ({"engine": engine.key.precision} if engine else {})
    return Subject(
        model=f"{bundle.manifest.name} {bundle.manifest.version}",
        bundle_sha256=bundle.sha256,
        commit=commit(Path(__file__).parent),
        runtime=ran_on,
        precision=precision,
        input_shape={spec.name: spec.shape for spec in graph.inputs[:1]},
        batch=1,
        engine_sha256=recogniser.engine_sha256,
    )


def model_bytes(graph: Path, recogniser: Recogniser) -> int:
    """Bytes on disk of the engine that `recogniser` opened, or of the ONNX file `graph` with its weight files."""
    engine = _engine(recogniser)
    if engine is not None:
        return engine.size_bytes
    return sum(path.stat().st_size for path in {graph, *(graph.parent / place for place in external_locations(graph))})


def _engine(recogniser: Recogniser) -> EngineRecord | None:
    """The record of the engine that was opened; None if the graph's own file was."""
    opened = recogniser.engine_sha256
    return next((each for each in default_cache().records() if opened is not None and each.sha256 == opened), None)
