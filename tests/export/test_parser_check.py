"""What TensorRT 10.3 would say of a graph, against cases whose answer stands in its parser's documentation."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from edge_sdk.bundle import open_bundle
from edge_sdk.errors import EngineError
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.parser_table import SAME_IN_21

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
Inputs = dict[str, tuple[int, tuple[int, ...]]]


def model_of(
    kind: str,
    inputs: Inputs,
    output: tuple[int, tuple[int, ...]],
    *,
    opset: int = 20,
    axes: list[int] | None = None,
    domain: str = "",
    outputs: tuple[str, ...] = ("y",),
    **attributes: Any,
) -> ModelProto:
    names = [*inputs, *(["axes"] if axes else [])]
    node = helper.make_node(kind, names, outputs, name="the-node", domain=domain, **attributes)
    values = [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    initialisers = [helper.make_tensor("axes", INT64, [len(axes)], axes)] if axes else []
    graph = helper.make_graph([node], "toy", values, [helper.make_tensor_value_info("y", *output)], initialisers)
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "extra"),
    [
        ("Add", {"a": (HALF, (2, 3)), "b": (HALF, (3,))}, (HALF, (2, 3)), {}),
        ("Mod", {"a": (INT64, (4,)), "b": (INT64, (1,))}, (INT64, (4,)), {}),
        ("Gather", {"x": (HALF, (1, 8)), "i": (INT64, (2,))}, (HALF, (1, 2)), {"axis": 1}),
        ("Gather", {"x": (INT64, (8,)), "i": (INT64, (2,))}, (INT64, (2,)), {}),
        ("Where", {"c": (BOOL, (4,)), "a": (HALF, (4,)), "b": (HALF, (4,))}, (HALF, (4,)), {}),
        ("Less", {"a": (INT64, (4,)), "b": (INT64, (4,))}, (BOOL, (4,)), {}),
        ("Softplus", {"x": (FLOAT, (4,))}, (FLOAT, (4,)), {}),
        ("ReduceMax", {"x": (FLOAT, (4, 2))}, (FLOAT, (4, 1)), {"axes": [1]}),
        ("Squeeze", {"x": (FLOAT, (1, 2))}, (FLOAT, (2,)), {"axes": [0]}),
        ("Cast", {"x": (HALF, (4,))}, (FLOAT, (4,)), {"to": FLOAT}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_takes(kind: str, inputs: Inputs, output: tuple[int, tuple[int, ...]], extra: dict[str, Any]) -> None:
    check_decomposed(model_of(kind, inputs, output, **extra))


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "extra", "reason"),
    [
        ("Gelu", {"x": (HALF, (4,))}, (HALF, (4,)), {}, r"ai\.onnx\.Gelu is not in its list"),
        ("BitwiseAnd", {"a": (INT64, (4,)), "b": (INT64, (4,))}, (INT64, (4,)), {}, "not in its list"),
        ("RMSNormalization", {"x": (FLOAT, (4,)), "w": (FLOAT, (4,))}, (FLOAT, (4,)), {"opset": 24}, "not in its list"),
        ("Transpose", {"x": (FLOAT, (4, 2))}, (FLOAT, (2, 4)), {"opset": 24}, "as in opset 24, and 20 is the newest"),
        ("And", {"a": (BOOL, (4,)), "b": (BOOL, (4,))}, (BOOL, (4,)), {"domain": "vendor"}, "own operators"),
        ("Sigmoid", {"x": (TensorProto.DOUBLE, (4,))}, (TensorProto.DOUBLE, (4,)), {}, "'x' is DOUBLE"),
        ("ReduceMax", {"x": (BOOL, (4, 2))}, (BOOL, (4, 1)), {"axes": [1]}, "'x' is BOOL"),
        (
            "Where",
            {"c": (BOOL, (4,)), "a": (TensorProto.DOUBLE, (4,)), "b": (TensorProto.DOUBLE, (4,))},
            (TensorProto.DOUBLE, (4,)),
            {},
            "'a' is DOUBLE",
        ),
        ("Cast", {"x": (HALF, (4,))}, (TensorProto.DOUBLE, (4,)), {"to": TensorProto.DOUBLE}, "'y' is DOUBLE"),
        ("ReduceMean", {"x": (FLOAT, (4, 2)), "a": (INT64, (1,))}, (FLOAT, (4, 1)), {}, "'a', is not an initialiser"),
        (
            "LayerNormalization",
            {"x": (FLOAT, (4, 2)), "w": (FLOAT, (2,))},
            (FLOAT, (4, 2)),
            {"outputs": ("y", "mean")},
            "more than one output",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_what_it_refuses_and_why(
    kind: str, inputs: Inputs, output: tuple[int, tuple[int, ...]], extra: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EngineError, match=reason) as raised:
        check_decomposed(model_of(kind, inputs, output, **extra))
    if "domain" not in extra:
        assert f"node 'the-node' ({kind})" in str(raised.value)


def test_a_graph_of_opset_21_is_fine_where_its_operators_are_the_old_ones() -> None:
    check_decomposed(model_of("MatMul", {"a": (HALF, (2, 3)), "b": (HALF, (3, 4))}, (HALF, (2, 4)), opset=21))
    check_decomposed(model_of("Transpose", {"x": (FLOAT, (4, 2))}, (FLOAT, (2, 4)), opset=21))
    inputs = {"x": (FLOAT, (1, 4, 2)), "s": (FLOAT, (4,)), "b": (FLOAT, (4,))}
    with pytest.raises(EngineError, match="as in opset 21"):
        check_decomposed(model_of("GroupNormalization", inputs, (FLOAT, (1, 4, 2)), opset=21, num_groups=2))


@pytest.mark.parametrize("kind", sorted(SAME_IN_21))
def test_opset_21_changed_nothing_but_types_and_blocks(kind: str) -> None:
    old, new = (onnx.defs.get_schema(kind, version) for version in (20, 21))
    assert new.since_version == 21
    assert [formal.name for formal in new.inputs] == [formal.name for formal in old.inputs]
    assert set(new.attributes) - set(old.attributes) == ({"block_size"} if kind == "DequantizeLinear" else set())


def test_the_demo_students_graph_is_taken() -> None:
    graph, path = open_bundle().graph()
    assert "decomposed" in graph.dialects
    check_decomposed(onnx.load(path, load_external_data=False))
