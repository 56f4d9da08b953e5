"""On a GPU: engines are built, opened and run, and give what ONNX Runtime gives on the CPU. Awaits a board."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.errors import EngineError
from edge_sdk.files import sha256_of
from edge_sdk.registry import open_runtime, why_missing
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.toolchain.building import BuildOptions, build

pytestmark = pytest.mark.device
STEPS = 50
RELATIVE_ERROR = 1e-2
"""Of the largest value; TensorRT sums in another order and picks kernels of its own."""


@pytest.fixture(scope="module", params=["trt", "rtx"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, SessionOptions]:
    reason = why_missing(request.param)
    if reason:
        pytest.skip(reason)
    cache = tmp_path_factory.mktemp("engines")
    build(None, request.param, cache=cache, options=BuildOptions(), quiet=True)
    return request.param, SessionOptions(engines=cache)


def frames(graph: Any, step: int) -> dict[str, Array]:
    state, random = {entry.input for entry in graph.state}, np.random.default_rng(step)
    shapes = {s.name: [1 if isinstance(d, str) else d for d in s.shape] for s in graph.inputs if s.name not in state}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_student_runs_as_on_the_cpu_and_allocates_nothing_once_it_is_warm(
    built: tuple[str, SessionOptions],
) -> None:
    name, options = built
    graph, path = open_bundle(default_bundle()).graph("student")
    with (
        closing(open_runtime(name).open(path, graph, options)) as session,
        closing(open_runtime("ort").open(path, graph, SessionOptions(threads=1))) as other,
    ):
        watched: Any = session
        bound, expected = (each.bind_state(graph.state, {"streams": 1}) for each in (session, other))
        allocated = watched.allocations
        for step in range(STEPS):
            feeds = frames(graph, step)
            found, reference = bound.run(feeds), expected.run(feeds)
            for output, value in reference.items():
                limit = RELATIVE_ERROR * max(float(np.abs(value).max()), 1e-3)
                np.testing.assert_allclose(found[output], value, atol=limit, err_msg=f"{output}, step {step}")
        assert watched.allocations == allocated
        if name == "trt":
            assert watched.captured == {"streams 1..4": "2"}


def test_an_engine_is_known_by_the_digest_of_its_file(built: tuple[str, SessionOptions]) -> None:
    name, options = built
    graph, path = open_bundle(default_bundle()).graph("student")
    assert options.engines is not None
    with closing(open_runtime(name).open(path, graph, options)) as session:
        assert session.engine_sha256 in {sha256_of(file) for file in options.engines.glob("student.*.engine")}


def test_an_engine_that_was_cut_off_is_refused(built: tuple[str, SessionOptions], tmp_path: Path) -> None:
    name, options = built
    graph, path = open_bundle(default_bundle()).graph("student")
    assert options.engines is not None
    for file in options.engines.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[: len(data) // 2] if file.suffix == ".engine" else data)
    with pytest.raises(EngineError, match="edge-sdk build"):
        open_runtime(name).open(path, graph, SessionOptions(engines=tmp_path))
