"""Time the student's graph in ONNX Runtime alone: a yardstick of the same model that shares no code with this SDK."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime

from edge_sdk.benchmarks.measure import Limits, measure
from edge_sdk.bundle import Bundle
from edge_sdk.perception.recogniser import student_of


def bare_ms(bundle: Bundle, limits: Limits) -> float:
    """Median milliseconds of one run of the student's CPU graph for one stream, one thread, on unchanging inputs."""
    name = student_of(bundle).graph_on("ort")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        bundle.path(bundle.manifest.graphs[name].file), options, providers=["CPUExecutionProvider"]
    )
    draw = np.random.default_rng(0)
    feeds = {
        spec.name: draw.random([size if isinstance(size, int) else 1 for size in spec.shape], np.float32)
        for spec in session.get_inputs()
    }

    def run(_: int) -> tuple[int, int]:
        begin_ns = time.perf_counter_ns()
        session.run(None, feeds)
        return begin_ns, time.perf_counter_ns()

    return float(np.median(measure(run, ("run",), limits).latency)) / 1e6
