"""What a manifest may ask to be kept for each stream is bounded as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from toy_bundle import GRAPH, STUDENT, edit, refused, write

from edge_sdk.bundle import Bundle
from edge_sdk.errors import BundleKeyError
from edge_sdk.perception.planes import PlaneStack

SQUARE = {"height": 1000, "width": 1000}


@pytest.mark.parametrize("lags", [(1,), (4, 1), (7, 7, 7)])
def test_pictures_are_counted_as_they_are_kept(lags: tuple[int, ...]) -> None:
    stack = PlaneStack(1, 6, 10, lags)
    kept = sum(each.nbytes for each in vars(stack).values() if isinstance(each, np.ndarray) and each.ndim == 4)
    assert msgspec.structs.replace(STUDENT, height=6, width=10, lags=lags).picture_bytes == kept


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ({"height": 16_384, "width": 16_384, "lags": [1000]}, "270.851 GB"),
        ({"height": 16_384, "width": 16_384, "lags": [1]}, "2.68435 GB"),
        ({"height": 100, "width": 100, "lags": [1] * 25_000}, "1.00006 GB"),
        # 992 pictures and two planes are a thousand million bytes, and there is a state
        (SQUARE | {"lags": [991]}, "1 GB"),
    ],
)
def test_pictures_that_no_device_has_room_for(folder: Path, size: dict[str, Any], told: str) -> None:
    edit(folder, lambda document: document["student"].update(size))
    refused(folder, BundleKeyError, "$.student", "at most 1 GB", f"found {told} with the graph 'student'", "`lags`")


def test_pictures_that_just_fit(folder: Path) -> None:
    edit(folder, lambda document: document["student"].update(SQUARE | {"lags": [990]}))
    student = Bundle.open(folder).manifest.student
    assert student is not None
    assert student.picture_bytes == 999_000_000


def large(length: int, dtype: str = "float32") -> dict[str, Any]:
    """The toy's tensors with a state of `length` values for each stream."""
    document: dict[str, Any] = msgspec.to_builtins(GRAPH)
    for spec in (document["inputs"][1], document["outputs"][1]):
        spec.update(shape=["n", length], dtype=dtype)
    return document


@pytest.mark.parametrize("length", [300_000_000, 10**18, 10**4000], ids=["more", "much", "unspeakable"])
@pytest.mark.parametrize("which", ["student", "fast"])
def test_a_state_that_no_device_has_room_for(tmp_path: Path, length: int, which: str) -> None:
    """In the graph for a CPU too; `fast` is that one."""
    student = msgspec.structs.replace(STUDENT, cpu_graph="fast")
    folder = write(tmp_path / "toy", student=student, graphs={"student": GRAPH, "fast": GRAPH}).folder
    edit(folder, lambda document: document["graphs"].update({which: large(length)}))
    refused(folder, BundleKeyError, "$.student", "at most 1 GB", f"with the graph {which!r}", "shapes of the state")


@pytest.mark.parametrize(("dtype", "size_bytes"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("int64", 8)])
def test_a_state_counts_by_its_elements(folder: Path, dtype: str, size_bytes: int) -> None:
    left = 1_000_000_000 - STUDENT.picture_bytes
    edit(folder, lambda document: document["graphs"].update(student=large(left // size_bytes, dtype)))
    Bundle.open(folder)
    edit(folder, lambda document: document["graphs"].update(student=large(left // size_bytes + 1, dtype)))
    refused(folder, BundleKeyError, "at most 1 GB")


def test_a_graph_that_keeps_nothing_for_a_stream_is_not_counted(tmp_path: Path) -> None:
    """What the video LLM takes is worked out before it is opened, and depends on the device."""
    graph = msgspec.convert(large(10**12), type(GRAPH))
    assert write(tmp_path / "toy", graphs={"student": GRAPH, "decoder": graph}).manifest.graphs["decoder"] == graph
