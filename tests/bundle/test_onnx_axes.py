"""Axes are freed as the onnx package would free them, and nothing else of a file is touched."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.onnx_axes import with_free_axes
from edge_sdk.errors import BundleError

LONG = "a_dimension_whose_name_makes_every_message_above_it_longer_than_one_byte_can_say_" * 3


@pytest.mark.parametrize("name", ["n", LONG])
def test_a_decoder_with_free_slots_is_what_the_onnx_package_makes_of_it(name: str) -> None:
    bundle = open_bundle()
    graph, path = bundle.graph("decoder.2048.native")
    axes = {tensor: 2 for entry in graph.state for tensor in (entry.input, entry.output)} | {"mask": 3}
    expected = onnx.load(path, load_external_data=False)
    for value in (*expected.graph.input, *expected.graph.output):
        if value.name in axes:
            value.type.tensor_type.shape.dim[axes[value.name]].dim_param = name
    found = onnx.load_from_string(with_free_axes(path, axes, name))
    assert found == expected
    assert found != onnx.load(path, load_external_data=False)


def test_a_tensor_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    path = tmp_path / "toy.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "toy", [x], [x])), path)
    assert with_free_axes(path, {"y": 1}, "n") == path.read_bytes()


def test_a_file_that_is_no_protobuf_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(BundleError, match=r"junk\.onnx is not an ONNX file"):
        with_free_axes(path, {}, "n")
