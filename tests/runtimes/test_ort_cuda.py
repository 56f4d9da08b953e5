"""On a GPU: ONNX Runtime with its state on the device gives what it gives on the CPU. Awaits a board."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import MissingDependencyError
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, SessionOptions

pytestmark = pytest.mark.device
HEADS, WIDTH, SLOTS, STEPS = 2, 3, 64, 20


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["running_sum", "scatter_cache", "append_cache"])
def test_state_on_the_device_is_the_state_on_the_host(kind: str, request: pytest.FixtureRequest) -> None:
    path, graph = request.getfixturevalue(kind)
    dims = {"streams": 2, "batch": 2, "slots": SLOTS}
    ort = open_runtime("ort")
    try:
        session: Any = ort.open(path, graph, SessionOptions(device="cuda"))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    bound, other = (
        each.bind_state(graph.state, dims) for each in (session, ort.open(path, graph, SessionOptions(threads=1)))
    )
    (entry,) = graph.state
    for step in range(STEPS):
        at = np.array([step * 2, step * 2 + 5])
        rows = {"rows": normal(step, 2, HEADS, 1 + step % 3, WIDTH), "at": at}
        feeds = {"x": normal(step, 2, WIDTH)} if kind == "running_sum" else rows
        found, expected = bound.run(feeds), other.run(feeds)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bound.read(entry.input), other.read(entry.input), rtol=1e-5, atol=1e-5)
