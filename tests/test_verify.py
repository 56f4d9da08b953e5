"""Verification: a right graph passes, a wrong one is found even when every hash is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.bundle.manifest import Graph, ReferenceCase
from edge_sdk.errors import BundleError, ConfigError, RuntimeFailure, VerificationError
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.types import TensorSpec
from edge_sdk.verify import VerifyReport, require, verify
from edge_sdk.verify.reference_files import reference_bytes

WEIGHT = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
TOLERANCE = 1e-5


def onnx_bytes(weight: Array) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Sqrt", ["y"], ["root"])]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 6), ("y", 4), ("root", 4))
    ]
    graph = helper.make_graph(nodes, "toy", infos[:1], infos[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def bundle(
    folder: Path, *, weight: Array = WEIGHT, reference: bytes | None = None, tolerance: float = TOLERANCE
) -> Bundle:
    case = ReferenceCase(file="reference/toy.safetensors", max_relative_error=tolerance)
    graph = Graph(
        file="toy.onnx",
        dialects=("native", "decomposed"),
        opset=17,
        inputs=(TensorSpec(name="x", dtype="float32", shape=("n", 6)),),
        outputs=tuple(TensorSpec(name=name, dtype="float32", shape=("n", 4)) for name in ("y", "root")),
        reference=case if reference is not None else None,
    )
    bare = msgspec.structs.replace(graph, reference=None)
    files: dict[str, Path | bytes] = {"toy.onnx": onnx_bytes(weight)}
    if reference is not None:
        files[case.file] = reference
    return write_bundle(folder, name="toy", version="1", graphs={"toy": graph, "bare": bare}, files=files)


def good() -> bytes:
    return reference_bytes({"x": X}, {"y": X.astype(np.float64).dot(WEIGHT).astype(np.float32)})


def test_a_right_graph_passes(tmp_path: Path) -> None:
    report = verify(bundle(tmp_path / "b", reference=good()), "ort", SessionOptions(threads=1))
    (check,) = report.outputs
    assert report.ok
    assert check.ok
    assert (check.graph, check.output, check.problem) == ("toy", "y", None)
    assert check.relative_error is not None
    assert check.relative_error <= TOLERANCE
    assert check.cosine == pytest.approx(1.0)
    assert report.without_reference == ("bare",)
    assert "bare: no reference outputs" in str(report)
    assert str(report).endswith("toy on ort: ok")
    require(report)


def test_the_error_is_the_largest_difference_over_the_largest_value(tmp_path: Path) -> None:
    expected = X @ WEIGHT
    expected[1, 2] += 0.5
    report = verify(bundle(tmp_path / "b", reference=reference_bytes({"x": X}, {"y": expected})))
    (check,) = report.outputs
    found = X.astype(np.float64) @ WEIGHT
    assert check.relative_error == pytest.approx(0.5 / np.abs(expected).max(), rel=1e-5)
    cosine = (found * expected).sum() / np.sqrt((found**2).sum() * (expected.astype(np.float64) ** 2).sum())
    assert check.cosine == pytest.approx(cosine, rel=1e-6)
    assert not report.ok
    tolerant = verify(bundle(tmp_path / "c", reference=reference_bytes({"x": X}, {"y": expected}), tolerance=0.5))
    assert tolerant.ok


@pytest.mark.parametrize("place", [0, 11, 23])
def test_a_corrupted_weight_is_found_though_every_hash_is_right(tmp_path: Path, place: int) -> None:
    wrong = WEIGHT.copy()
    wrong.flat[place] *= -1
    report = verify(Bundle.open(bundle(tmp_path / "b", weight=wrong, reference=good()).folder))
    assert not report.ok
    with pytest.raises(VerificationError, match=r"'toy'.*toy/y: relative error"):
        require(report)


def test_one_flipped_bit_of_an_exponent_is_found(tmp_path: Path) -> None:
    wrong = WEIGHT.copy()
    wrong.view(np.uint32)[2, 1] ^= 1 << 23
    assert not verify(bundle(tmp_path / "b", weight=wrong, reference=good())).ok


def only(report: VerifyReport) -> Any:
    (check,) = report.outputs
    assert not report.ok
    assert check.relative_error is check.cosine is None
    return check


def test_values_that_are_not_finite_fail(tmp_path: Path) -> None:
    roots = np.ones((3, 4), np.float32)
    check = only(verify(bundle(tmp_path / "b", reference=reference_bytes({"x": X}, {"root": roots}), tolerance=1e30)))
    negative = int((X @ WEIGHT < 0).sum())
    assert check.problem == f"{negative} of 12 values of the output are not finite"
    broken = save({"in.x": X, "out.y": np.full((3, 4), np.inf, np.float32)})
    assert "12 of 12 values of the reference" in only(verify(bundle(tmp_path / "c", reference=broken))).problem


def test_another_shape_fails(tmp_path: Path) -> None:
    report = verify(bundle(tmp_path / "b", reference=reference_bytes({"x": X}, {"y": np.ones((4, 3), np.float32)})))
    assert only(report).problem == "expected the shape [4, 3], found [3, 4]"


def test_a_reference_of_zeros(tmp_path: Path) -> None:
    zeros = np.zeros((3, 4), np.float32)
    report = verify(bundle(tmp_path / "b", reference=reference_bytes({"x": X}, {"y": zeros})))
    assert "zero everywhere" in only(report).problem
    silent = verify(
        bundle(tmp_path / "c", weight=np.zeros_like(WEIGHT), reference=reference_bytes({"x": X}, {"y": zeros}))
    )
    assert silent.ok
    assert silent.outputs[0].relative_error == 0.0


def test_the_null_runtime_does_not_verify(tmp_path: Path) -> None:
    report = verify(bundle(tmp_path / "b", reference=good()), "null")
    assert not report.ok
    assert report.outputs[0].relative_error == 1.0


def test_nothing_compared_is_not_ok(tmp_path: Path) -> None:
    report = verify(bundle(tmp_path / "b"))
    assert not report.ok
    assert report.without_reference == ("bare", "toy")
    with pytest.raises(VerificationError, match="no reference outputs"):
        require(report)


def test_the_report_is_json(tmp_path: Path) -> None:
    broken = save({"in.x": X, "out.y": np.full((3, 4), np.nan, np.float32)})
    report = verify(bundle(tmp_path / "b", reference=broken))
    document = json.loads(msgspec.json.encode(report))
    assert document["ok"] is False
    assert document["outputs"][0]["relative_error"] is None
    assert msgspec.json.decode(msgspec.json.encode(report), type=VerifyReport) == report


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (b"not safetensors", "not a safetensors file"),
        (save({"in.x": X, "y": X}), r"in\.NAME or out\.NAME, found \['y'\]"),
        (save({"in.x": X, "out.z": X}), r"outputs of the graph 'toy', found \['z'\]"),
        (save({"in.x": X}), r"outputs of the graph 'toy', found \[\]"),
        (save({"in.x": np.zeros((100_000, 6), np.float32)}), "at most 2000000"),
    ],
    ids=["garbage", "stray", "unknown", "empty", "large"],
)
def test_a_reference_that_cannot_be_used(tmp_path: Path, reference: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        verify(bundle(tmp_path / "b", reference=reference))


def test_reference_inputs_that_the_graph_refuses(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="'x'"):
        verify(bundle(tmp_path / "b", reference=reference_bytes({"x": X[:, :5]}, {"y": X @ WEIGHT})))


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (X.astype(np.float16).astype(np.float32), np.float16),
        (np.array([[1.0, 0.5, 2.0**-24, 65504.0, -0.0, 0.0]], np.float32), np.float16),
        (X, np.float32),
        (np.array([[1.0, 1e5, 0.0, 0.0, 0.0, 0.0]], np.float32), np.float32),
        (np.array([[1.0, 2.0**-25, 0.0, 0.0, 0.0, 0.0]], np.float32), np.float32),
    ],
    ids=["rounded", "limits", "fine", "large", "small"],
)
def test_inputs_are_stored_as_float16_only_where_that_loses_nothing(
    tmp_path: Path, x: Array, dtype: type[np.floating[Any]]
) -> None:
    reference = reference_bytes({"x": x}, {"y": x.astype(np.float64).dot(WEIGHT).astype(np.float32)})
    stored = load(reference)
    assert stored["in.x"].dtype == dtype
    np.testing.assert_array_equal(stored["in.x"].astype(np.float32), x)
    assert stored["out.y"].dtype == np.float32
    assert verify(bundle(tmp_path / "b", reference=reference)).ok


def test_a_reference_with_wide_inputs_is_read_as_it_was(tmp_path: Path) -> None:
    x = X.astype(np.float16).astype(np.float32)
    assert verify(bundle(tmp_path / "b", reference=save({"in.x": x, "out.y": x @ WEIGHT}))).ok


def test_a_reference_file_is_small_and_holds_every_value() -> None:
    found = load(reference_bytes({"x": X.T[::2]}, {"y": X}))
    assert found.keys() == {"in.x", "out.y"}
    np.testing.assert_array_equal(found["in.x"], X.T[::2])
    np.testing.assert_array_equal(found["out.y"], X)
    with pytest.raises(ConfigError, match="2000000"):
        reference_bytes({"x": np.zeros(1_000_000, np.float32)}, {"y": X})
    with pytest.raises(ConfigError, match=r"'y'.*finite"):
        reference_bytes({"x": X}, {"y": np.array([np.nan], np.float32)})
