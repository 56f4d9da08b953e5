"""TensorRT-RTX compiles what the quantise recipes make: few-bit weights, 8-bit inputs, with LoRA beside them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import onnx
import pytest
import torch

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

from ort_graphs import RandomWeights
from quantise_cases import DIALECTS, stored_decoder, tiny_weights, w4_formats
from student_cases import small_bundle, small_student
from torch import Tensor

from edge_sdk.bundle.manifest import Graph
from edge_sdk.engine.shapes import Lengths, ShapeProfile
from edge_sdk.engine.tensorrt_library import open_tensorrt
from edge_sdk.export.eager import encode
from edge_sdk.export.gate import compile_gate
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.vision_onnx import vision_graph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.model_config import VisionConfig
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.quantise.activations.few_vision import FewVision
from edge_sdk.export.quantise.activations.inputs import with_rounded_inputs
from edge_sdk.export.quantise.activations.vision_statistics import FILE, VisionMaxima
from edge_sdk.export.quantise.decoder_files import DecoderFiles
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.recipe import load_quantise_recipe
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.export.quantise.statistics import Statistics
from edge_sdk.export.quantise.student.integers import with_integers
from edge_sdk.export.quantise.student.layers import rounded_values, student_layers
from edge_sdk.export.trt_network import parse
from edge_sdk.types import Dialect

RANGES = {"q": Lengths(smallest=1, best=1, largest=8), "r": Lengths(smallest=1, best=1, largest=8)}


def compiled(width: int, block: int, dialect: Dialect, folder: Path) -> tuple[int, int, int]:
    """Bytes of the engine, of the stored matrices, and of the same ones in float16."""
    weights = tiny_weights(hidden=width, inner=4 * width)
    formats = w4_formats(weights, Format(bits=4, block=block))
    files, graphs = stored_decoder(weights, folder, formats, "float16", lora_rank=4)
    path = folder / f"decoder.16.{dialect}.onnx"
    profile = ShapeProfile(name="decode", lengths=RANGES)
    result = compile_gate(path, graphs[dialect, 16].entry(path.name), [profile])
    stored = sum(files.places[name].part.size_bytes for name in formats)
    return result.engine_bytes, stored, sum(2 * weights.tensor(name).numel() for name in formats)


@pytest.mark.parametrize(("dialect", "block"), [("native", 128), ("decomposed", 32)])
def test_few_bit_decoders_compile(block: int, dialect: Dialect, tmp_path: Path) -> None:
    engine, stored, _ = compiled(128, block, dialect, tmp_path)
    assert engine > stored


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("block", [128, 32])
def test_engines_keep_the_few_bits(block: int, dialect: Dialect, tmp_path: Path) -> None:
    engine, stored, in_half = compiled(512, block, dialect, tmp_path)
    # 7.0 to 8.4 MB for 4.1 MB stored, of which kernels are 3 MB; in float16 the weights alone would be 16 MB.
    assert engine < stored + in_half / 2


def seen_scale(layer: int, group: str) -> Tensor:
    """A scale of inputs, as a calibration would have given it."""
    return torch.tensor(0.03)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("recipe", ["w8a8", "fp8"])
def test_decoders_with_8_bit_inputs_compile(recipe: str, dialect: Dialect, tmp_path: Path) -> None:
    weights = tiny_weights(hidden=128, inner=512)
    text = weights.config.text
    settings = load_quantise_recipe(recipe)
    rounded, formats = settings.rounded_inputs(text.layers), settings.formats(text.layers)
    files = DecoderFiles(weights, "float16", formats, rounded=rounded, input_scales=seen_scale)
    for file in files.files:
        file.write(tmp_path)
    form = DecoderForm(dialect=dialect, slots=16, dtype="float16", lora_rank=4)
    plain = decoder_graph(text, form, WeightFile(weights, "decoder", "float16"))
    graph = with_rounded_inputs(with_stored(plain, files.places, formats), files.places, rounded)
    if dialect == "decomposed":
        check_decomposed(graph.model)
    path = tmp_path / "decoder.onnx"
    graph.save(path)
    result = compile_gate(path, graph.entry(path.name), [ShapeProfile(name="decode", lengths=RANGES)])
    assert result.engine_bytes > sum(files.places[name].part.size_bytes for name in formats)


class Seen:
    """The folder of a calibration's statistics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("recipe", ["w8a8", "vision-int8", "fp8"])
def test_towers_with_8_bit_linears_compile(recipe: str, dialect: Dialect, tmp_path: Path) -> None:
    config = msgspec.structs.replace(tiny_weights().config, vision=VisionConfig(layers=1))
    weights, grid = RandomWeights(config), Grid(rows=4, columns=6)
    maxima = VisionMaxima()
    patches = torch.randn(1, grid.patches, config.vision.patch_values, generator=torch.Generator().manual_seed(0))
    encode(weights, [(grid, patches)], lambda: None, maxima.watch)
    maxima.save(tmp_path / FILE)
    seen = cast(Statistics, Seen(tmp_path))
    few = FewVision(weights, load_quantise_recipe(recipe), seen, "float16")
    few.file.write(tmp_path)
    graph = few.graph(vision_graph(config.vision, grid, WeightFile(weights, "vision", "float16"), dialect))
    if dialect == "decomposed":
        check_decomposed(graph.model)
    path = tmp_path / "vision.onnx"
    graph.save(path)
    lengths = {"frames": Lengths(smallest=1, best=1, largest=8)}
    result = compile_gate(path, graph.entry(path.name), [ShapeProfile(name="vision", lengths=lengths)])
    assert result.engine_bytes < 0.8 * WeightFile(weights, "vision", "float16").size_bytes + 10_000_000


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, dict[str, Path]]:
    """A student of 8 bits in both forms."""
    folder = tmp_path_factory.mktemp("student")
    bundle = small_bundle(folder / "bundle", small_student())
    graph, path = bundle.graph("student")
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    layers = student_layers(model)
    ranges = {name: (-1.0 if name.startswith(("conv", "frames")) else 0.0, 2.0) for name in rounded_values(layers)}
    paths = {}
    for name, unsigned in (("student", False), ("cpu", True)):
        paths[name] = folder / f"{name}.onnx"
        onnx.save(with_integers(model, layers, ranges, unsigned=unsigned), paths[name])
    return graph, paths


def test_a_student_of_8_bits_compiles(student: tuple[Graph, dict[str, Path]]) -> None:
    graph, paths = student
    lengths = {"streams": Lengths(smallest=1, best=1, largest=4)}
    result = compile_gate(paths["student"], graph, [ShapeProfile(name="student", lengths=lengths)])
    assert result.layers > 100


def test_tensorrt_reads_unsigned_numbers_as_signed_which_is_why_a_cpu_has_its_own_graph(
    student: tuple[Graph, dict[str, Path]],
) -> None:
    rtx = open_tensorrt("rtx")
    native = parse(rtx, student[1]["cpu"])
    layers = [native.native.get_layer(index) for index in range(native.native.num_layers)]
    kinds = {layer.get_output(0).dtype for layer in layers if layer.type == rtx.module.LayerType.QUANTIZE}
    assert kinds == {rtx.module.int8}
