"""Few-bit weights: rounding against brute force, bytes against the onnx package, graphs against ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from decoder_loop import scattered_feeds
from onnx import TensorProto, helper, numpy_helper
from quantise_cases import (
    DIALECTS,
    W4,
    W8,
    onnx_weights,
    optimised,
    run_plainly,
    stored_decoder,
    tiny_weights,
    w4_formats,
)

from edge_sdk.errors import ConfigError
from edge_sdk.export.graphs.decoder import Decoder
from edge_sdk.export.graphs.decoder_io import DecoderForm, decoder_inputs
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.layouts import HEAD, LINEARS
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.quantise.decoder_files import DecoderFiles, linear_name
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.restored_weights import RestoredWeights
from edge_sdk.export.quantise.rounding import packed, restored, rounded, scales_of, unpacked
from edge_sdk.export.quantise.stored_file import scale_name
from edge_sdk.runtime import SessionOptions
from edge_sdk.runtimes.ort import open_runtime
from edge_sdk.types import Dialect, DType

FORMATS = [W4, Format(bits=4, block=16), Format(bits=8, block=64), W8]


def matrix(rows: int = 128, columns: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(rows, columns, generator=generator) * 0.05
    found[3, 2], found[40, 5] = 1.5, -2.5  # what a block must stretch for, on either side
    found[64:96, 7] = 0
    return found


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_every_weight_becomes_the_nearest_of_all_numbers(form: Format) -> None:
    weights = matrix()
    scales = scales_of(weights, form, torch.float16)
    found = restored(rounded(weights, scales, form), scales, form).double().numpy()
    wide = scales.double().numpy()
    wide = np.repeat(wide, form.block, 0) if form.block else np.broadcast_to(wide, weights.shape)
    every = np.arange(form.lowest, form.highest + 1)
    best = np.abs(weights.double().numpy()[..., None] - wide[..., None] * every).min(-1)
    # A tie may fall to either side; float32's own rounding is far below.
    np.testing.assert_allclose(np.abs(found - weights.double().numpy()), best, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_a_scale_reaches_both_extremes_and_no_further(form: Format) -> None:
    weights = matrix()
    scales = scales_of(weights, form, torch.float32)
    numbers = rounded(weights, scales, form).unflatten(0, (-1, form.block or 128))
    blocks = weights.unflatten(0, (-1, form.block or 128))
    touched = (numbers.amax(1) == form.highest) | (numbers.amin(1) == form.lowest)
    assert torch.equal(touched, blocks.abs().amax(1) > 0)
    assert float((restored(rounded(weights, scales, form), scales, form) - weights).abs().max()) < 0.51 * float(
        scales.max()
    )
    assert bool((scales > 0).all())


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_onnx_runtime_quantises_to_the_same_numbers(form: Format) -> None:
    weights = matrix()
    scales = scales_of(weights, form, torch.float32)
    kind = TensorProto.INT4 if form.bits == 4 else TensorProto.INT8
    axis = 0 if form.block else 1
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=kind, axis=axis, block_size=form.block)
    back = helper.make_node("Cast", ["q"], ["y"], to=TensorProto.INT8)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, weights.shape)]
    out = helper.make_tensor_value_info("y", TensorProto.INT8, weights.shape)
    graph = helper.make_graph([node, back], "q", values, [out], [numpy_helper.from_array(scales.numpy(), "s")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"x": weights.numpy()})
    np.testing.assert_array_equal(rounded(weights, scales, form).numpy(), found)


def test_packed_bytes_are_what_the_onnx_package_reads() -> None:
    numbers = torch.arange(-8, 8, dtype=torch.int8).repeat(3)[:45].reshape(5, 9)
    stored = packed(numbers, W4)
    tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=[5, 9], raw_data=stored.numpy().tobytes())
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int8), numbers.numpy())
    assert torch.equal(unpacked(stored, W4, (5, 9)), numbers)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_files_hold_what_the_onnx_package_reads_through_the_graph(dtype: DType, tied: bool, tmp_path: Path) -> None:
    weights = tiny_weights(tied=tied)
    formats = w4_formats(weights)
    files, _ = stored_decoder(weights, tmp_path, formats, dtype)
    found = onnx_weights(tmp_path / "decoder.16.native.onnx")
    back = RestoredWeights(weights, files.places, formats, dict.fromkeys((f.location for f in files.files), tmp_path))
    for name in [*formats, "decoder.norm.weight", "decoder.layers.1.k.bias"]:
        read = back.tensor(name).t().double().numpy()
        # A product of float16 is rounded once to that type.
        np.testing.assert_allclose(read, found[name], rtol=6e-4 if dtype == "float16" else 1e-6)
        original = weights.tensor("decoder.embed_tokens.weight" if tied and name == HEAD else name).t()
        step = found[scale_name(name)].max() if name in formats else 1e-3
        assert np.abs(found[name] - original.double().numpy()).max() < 0.51 * step
    assert {file.location: file.size_bytes for file in files.files} == {
        path.name: path.stat().st_size for path in tmp_path.glob("*.weights")
    }


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_graph_gives_what_torch_gives_with_the_restored_weights(
    dialect: Dialect, lora_rank: int, tmp_path: Path
) -> None:
    weights = tiny_weights()
    formats = w4_formats(weights)
    files, _ = stored_decoder(weights, tmp_path, formats, lora_rank=lora_rank)
    folders = dict.fromkeys((file.location for file in files.files), tmp_path)
    back = RestoredWeights(weights, files.places, formats, folders)
    config = weights.config.text
    form = DecoderForm(dialect=dialect, slots=16, lora_rank=lora_rank)
    feeds = scattered_feeds(decoder_inputs(config, form))
    module = load(back, "decoder.", lambda: Decoder(config, dialect))
    with torch.inference_mode():
        expected = module(feeds)
    found = run_plainly(tmp_path / f"decoder.16.{dialect}.onnx", {n: t.numpy() for n, t in feeds.items()})
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_onnx_runtime_joins_every_matrix_with_its_product(dialect: Dialect, dtype: DType, tmp_path: Path) -> None:
    weights = tiny_weights()
    stored_decoder(weights, tmp_path, w4_formats(weights), dtype)
    path = tmp_path / f"decoder.16.{dialect}.onnx"
    session, model = optimised(path, tmp_path / "optimised.onnx", qdq_matmulnbits_accuracy_level="0")
    joined = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    bits = Counter(attribute.i for node in joined for attribute in node.attribute if attribute.name == "bits")
    assert bits == {4: 2 * len(LINEARS), 8: 1}
    assert not any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    config = weights.config.text
    feeds = scattered_feeds(decoder_inputs(config, DecoderForm(dialect=dialect, slots=16, dtype=dtype)))
    halves = {n: t.half() if dtype == "float16" and t.is_floating_point() else t for n, t in feeds.items()}
    given = {name: tensor.numpy() for name, tensor in halves.items()}
    (logits,) = session.run(["logits"], given)
    expected = run_plainly(path, given)["logits"]
    assert np.abs(logits - expected).max() < (5e-3 if dtype == "float16" else 1e-5) * np.abs(expected).max()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_products_in_floats_are_the_graph_as_it_is_written(dialect: Dialect, tmp_path: Path) -> None:
    weights = tiny_weights()
    _, graphs = stored_decoder(weights, tmp_path, w4_formats(weights))
    path = tmp_path / f"decoder.16.{dialect}.onnx"
    feeds = scattered_feeds(decoder_inputs(weights.config.text, DecoderForm(dialect=dialect, slots=16)))
    given = {name: tensor.numpy() for name, tensor in feeds.items()}
    expected, entry = run_plainly(path, given)["logits"], graphs[dialect, 16].entry(path.name)

    def error(float_products: bool) -> float:
        with closing(
            open_runtime().open(path, entry, SessionOptions(threads=1, float_products=float_products))
        ) as opened:
            return float(np.abs(opened.run(given)["logits"] - expected).max() / np.abs(expected).max())

    assert error(float_products=True) < 1e-5
    assert error(float_products=False) > 1e-3  # rows in 8 bits, or the option would be of no use


@pytest.mark.parametrize("block", [32, 128])
def test_decomposed_graphs_are_taken_by_tensorrt_10_3(block: int, tmp_path: Path) -> None:
    weights = tiny_weights(hidden=128, inner=256)
    formats = w4_formats(weights, Format(bits=4, block=block))
    _, graphs = stored_decoder(weights, tmp_path, formats, "float16", lora_rank=4)
    decomposed, native = graphs["decomposed", 16], graphs["native", 16]
    check_decomposed(decomposed.model)
    assert (decomposed.entry("x").opset, native.entry("x").opset) == (21, 24)
    assert {node.domain for graph in graphs.values() for node in graph.model.graph.node} == {""}


def test_eight_bits_alone_leave_the_opset_where_it_was(tmp_path: Path) -> None:
    weights = tiny_weights()
    _, graphs = stored_decoder(weights, tmp_path, w4_formats(weights, W8), "float16")
    check_decomposed(graphs["decomposed", 16].model)
    assert graphs["decomposed", 16].entry("x").opset == 20


def test_dialects_and_slots_share_every_byte(tmp_path: Path) -> None:
    weights = tiny_weights()
    files, graphs = stored_decoder(weights, tmp_path, w4_formats(weights), "float16", slots=(16, 64))
    named = [
        {
            tensor.name: (tensor.data_type, tuple(tensor.dims), *(entry.value for entry in tensor.external_data))
            for tensor in graph.model.graph.initializer
            if tensor.data_location == TensorProto.EXTERNAL
        }
        for graph in graphs.values()
    ]
    assert all(each == named[0] for each in named)
    assert set(named[0]) == files.places.keys()
    onnx.checker.check_model(tmp_path / "decoder.64.native.onnx", full_check=True)


def test_a_tensor_may_stay_as_it_is(tmp_path: Path) -> None:
    weights = tiny_weights()
    kept = linear_name(0, "down")
    formats = {name: form for name, form in w4_formats(weights).items() if name != kept}
    stored_decoder(weights, tmp_path, formats)
    found = onnx_weights(tmp_path / "decoder.16.decomposed.onnx")
    np.testing.assert_array_equal(found[kept], weights.tensor(kept).t().double().numpy())
    assert scale_name(kept) not in found


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    weights = tiny_weights()
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = DecoderFiles(weights, "float16", w4_formats(weights))
        contents.append([file.write(tmp_path / name).read_bytes() for file in files.files])
    assert contents[0] == contents[1]


def test_blocks_that_do_not_fill_a_matrix_are_refused_with_those_that_would() -> None:
    weights = tiny_weights(inner=80)
    with pytest.raises(ConfigError, match=r"layers\.0\.down\.weight: 80 inputs .* block of 32; give block = 16"):
        DecoderFiles(weights, "float16", w4_formats(weights))


@pytest.mark.parametrize(("bits", "block", "reason"), [(4, 0, "4 bits need a block"), (8, 48, "block must be one of")])
def test_formats_that_no_compiler_takes_are_refused(bits: int, block: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Format(bits=4 if bits == 4 else 8, block=block)
