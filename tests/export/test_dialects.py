"""What the graphs are made of: every operator and its version, shared weights, and no more than that."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from checkpoint_makers import save, tiny_model
from ort_graphs import Exported, RandomWeights
from torch import Tensor

from edge_sdk.errors import EngineError
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.onnx_graph import ModelGraph
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.types import Dialect, DType

# (domain, operator): the version of it that the dialect's opset has. All domains here are ONNX's own.
OPERATORS: dict[Dialect, dict[tuple[str, str], int]] = {
    "native": {
        ("", "Add"): 14,
        ("", "Attention"): 24,
        ("", "Cast"): 24,
        ("", "Gather"): 13,
        ("", "Gelu"): 20,
        ("", "LayerNormalization"): 17,
        ("", "MatMul"): 13,
        ("", "Mul"): 14,
        ("", "RMSNormalization"): 23,
        ("", "ReduceMean"): 18,
        ("", "Reshape"): 24,
        ("", "RotaryEmbedding"): 23,
        ("", "Sigmoid"): 13,
        ("", "Squeeze"): 24,
        ("", "TensorScatter"): 24,
        ("", "Transpose"): 24,
        ("", "Where"): 16,
    },
    "decomposed": {
        ("", "Add"): 14,
        ("", "And"): 7,
        ("", "Cast"): 19,
        ("", "Concat"): 13,
        ("", "Div"): 14,
        ("", "Erf"): 13,
        ("", "Gather"): 13,
        ("", "GreaterOrEqual"): 16,
        ("", "Identity"): 19,
        ("", "LayerNormalization"): 17,
        ("", "Less"): 13,
        ("", "MatMul"): 13,
        ("", "Mul"): 14,
        ("", "Range"): 11,
        ("", "ReduceMean"): 18,
        ("", "Reshape"): 19,
        ("", "Shape"): 19,
        ("", "Sigmoid"): 13,
        ("", "Slice"): 13,
        ("", "Softmax"): 13,
        ("", "Split"): 18,
        ("", "Sqrt"): 13,
        ("", "Squeeze"): 13,
        ("", "Sub"): 14,
        ("", "Tanh"): 13,
        ("", "Transpose"): 13,
        ("", "Unsqueeze"): 13,
        ("", "Where"): 16,
    },
}
DIALECTS: tuple[Dialect, ...] = tuple(OPERATORS)


class Unread(RandomWeights):
    """Weights whose names and shapes are all that may be asked for."""

    def tensor(self, name: str) -> Tensor:
        raise AssertionError(f"{name} was read to make a graph")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    checkpoint = Checkpoint.open(save(tiny_model(), tmp_path_factory.mktemp("model")))
    return Exported(checkpoint, tmp_path_factory.mktemp("graphs"))


def all_graphs(exported: Exported, dialect: Dialect) -> list[ModelGraph]:
    forms = [
        DecoderForm(dialect=dialect, slots=slots, dtype=exported.dtype, lora_rank=rank)
        for slots, rank in ((32, 0), (64, 0), (32, 4))
    ]
    grids = [Grid(rows=4, columns=6), Grid(rows=2, columns=2)]
    return [
        *(exported.decoder(form) for form in forms),
        *(exported.vision(grid, dialect) for grid in grids),
        exported.projector(dialect),
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_operator_and_its_version_is_listed(exported: Exported, dialect: Dialect) -> None:
    found: dict[tuple[str, str], int] = {}
    for graph in all_graphs(exported, dialect):
        (opset,) = graph.model.opset_import
        assert opset.domain == ""
        for node in graph.model.graph.node:
            schema = onnx.defs.get_schema(node.op_type, opset.version, node.domain)
            found[node.domain, node.op_type] = schema.since_version
    assert found == OPERATORS[dialect]
    assert max(found.values()) <= {"native": 24, "decomposed": 20}[dialect]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_parser_of_tensorrt_10_3_takes_every_decomposed_graph(tmp_path: Path, dtype: DType) -> None:
    exported = Exported(RandomWeights(ModelConfig.read(save(tiny_model(), tmp_path) / "config.json")), tmp_path, dtype)
    for graph in all_graphs(exported, "decomposed"):
        check_decomposed(graph.model)


def test_it_does_not_take_the_native_ones(exported: Exported) -> None:
    for graph in all_graphs(exported, "native"):
        with pytest.raises(EngineError, match="does not accept node"):
            check_decomposed(graph.model)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_graphs_pass_onnxs_own_check_and_share_their_weights(exported: Exported, dialect: Dialect) -> None:
    seen: dict[str, tuple[object, ...]] = {}
    for graph in all_graphs(exported, dialect):
        path = exported.folder / f"check.{dialect}.onnx"
        graph.save(path)
        onnx.checker.check_model(path, full_check=True)
        assert str(exported.folder).encode() not in path.read_bytes()
        external = [tensor for tensor in graph.model.graph.initializer if tensor.external_data]
        assert external
        for tensor in external:
            place = tuple((entry.key, entry.value) for entry in tensor.external_data)
            stored = (tensor.data_type, *tensor.dims, *place)
            assert seen.setdefault(tensor.name, stored) == stored
    assert {path.suffix for path in exported.folder.iterdir()} == {".onnx", ".weights"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("size", ["2B", "7B"])
def test_a_true_sized_decoder_is_small_and_made_without_reading_a_weight(
    shared_data: Path, size: str, dtype: DType, dialect: Dialect
) -> None:
    config = ModelConfig.read(shared_data / "videollama3-configs" / f"DAMO-NLP-SG__VideoLLaMA3-{size}__config.json")
    form = DecoderForm(dialect=dialect, slots=10_752, dtype=dtype, lora_rank=64)
    file = WeightFile(Unread(config), "decoder", dtype)
    graph = decoder_graph(config.text, form, file)
    assert graph.model.ByteSize() < 8_000_000
    linears = {"2B": 1_310_195_712, "7B": 6_525_288_448}[size]
    head = config.text.vocab * config.text.hidden
    assert 2 * (linears + head) < file.size_bytes < 2.02 * (linears + head)
