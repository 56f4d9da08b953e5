"""The shared weight file: what lies where, and that it is the checkpoint's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_makers import canonical_state, save, tiny_model
from torch import Tensor

from edge_sdk.errors import CheckpointError
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.vision_onnx import projector_graph
from edge_sdk.export.graphs.weight_file import Part, WeightFile
from edge_sdk.types import DType

PARTS: tuple[Part, ...] = ("vision", "projector", "decoder")


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Checkpoint]:
    model = tiny_model(tied=request.param)
    return model, Checkpoint.open(save(model, tmp_path_factory.mktemp("model")))


def stored(path: Path, file: WeightFile, name: str) -> Tensor:
    placed = file[name]
    data = path.read_bytes()[placed.offset : placed.offset + placed.length]
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, file.dtype)).reshape(placed.shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_is_the_checkpoints_with_matrices_transposed(
    pair: tuple[Any, Checkpoint], part: Part, dtype: DType, tmp_path: Path
) -> None:
    model, checkpoint = pair
    file = WeightFile(checkpoint, part, dtype)
    path = file.write(tmp_path)
    assert path.name == file.location
    assert path.stat().st_size == file.size_bytes
    expected = {name: tensor for name, tensor in canonical_state(model).items() if name.startswith(f"{part}.")}
    table = expected.pop("decoder.embed_tokens.weight", None)
    if table is not None:
        expected.setdefault("decoder.lm_head.weight", table)
    for name, tensor in expected.items():
        assert torch.equal(stored(path, file, name), tensor.detach().t().to(getattr(torch, dtype))), name


def test_tensors_begin_at_pages_and_do_not_overlap(pair: tuple[Any, Checkpoint]) -> None:
    file = WeightFile(pair[1], "decoder", "float32")
    names = [name for name in pair[1].names() if name.startswith("decoder.layers.")]
    placed = sorted((file[name] for name in [*names, "decoder.rope.cos", "decoder.rope.sin"]), key=lambda p: p.offset)
    assert all(tensor.offset % 4096 == 0 for tensor in placed)
    assert all(before.offset + before.length <= after.offset for before, after in pairwise(placed))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_tied_head_may_lie_as_the_table_that_it_is(
    pair: tuple[Any, Checkpoint], dtype: DType, tmp_path: Path
) -> None:
    model, checkpoint = pair
    file = WeightFile(checkpoint, "decoder", dtype, hold_table=True)
    table = model.get_input_embeddings().weight.detach()
    assert file.holds_table == checkpoint.config.text.tied
    assert file.size_bytes == WeightFile(checkpoint, "decoder", dtype).size_bytes
    head = stored(file.write(tmp_path), file, "decoder.lm_head.weight")
    if file.holds_table:
        assert torch.equal(head, table.to(getattr(torch, dtype)))
    else:
        assert head.shape == table.shape[::-1]
    assert not WeightFile(checkpoint, "projector", dtype, hold_table=True).holds_table


def test_a_part_may_lie_in_a_file_of_another_name(pair: tuple[Any, Checkpoint], tmp_path: Path) -> None:
    file = WeightFile(pair[1], "projector", "float32", location="projector.perception.weights")
    assert file.write(tmp_path) == tmp_path / "projector.perception.weights"
    (weight, *_) = projector_graph(pair[1].config.projector, file, "native").model.graph.initializer
    assert {entry.key: entry.value for entry in weight.external_data}["location"] == "projector.perception.weights"


def test_the_embedding_table_stays_on_the_host(pair: tuple[Any, Checkpoint]) -> None:
    with pytest.raises(KeyError):
        WeightFile(pair[1], "decoder", "float32")["decoder.embed_tokens.weight"]


def test_a_large_matrix_is_written_in_blocks(
    pair: tuple[Any, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = WeightFile(pair[1], "decoder", "float32").write(tmp_path).read_bytes()
    monkeypatch.setattr("edge_sdk.export.graphs.weight_file._BLOCK_BYTES", 1000)
    assert WeightFile(pair[1], "decoder", "float32").write(tmp_path).read_bytes() == whole


def test_a_weight_beyond_float16_is_named(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.projector.readout[2].bias[3] = 1e5
    checkpoint = Checkpoint.open(save(model, tmp_path / "model"))
    with pytest.raises(CheckpointError, match=r"projector\.2\.bias as float16"):
        WeightFile(checkpoint, "projector", "float16").write(tmp_path)
    assert WeightFile(checkpoint, "projector", "float32").write(tmp_path).is_file()


def test_rope_is_exact_at_the_last_position(pair: tuple[Any, Checkpoint], tmp_path: Path) -> None:
    text = pair[1].config.text
    file = WeightFile(pair[1], "decoder", "float32")
    path = file.write(tmp_path)
    angles = (text.max_positions - 1) * text.rope_theta ** -(np.arange(0, text.head_dim, 2) / text.head_dim)
    # An angle of tens of thousands has float32's spacing there, about 0.004.
    np.testing.assert_allclose(stored(path, file, "decoder.rope.cos")[-1], np.cos(angles), atol=4e-3)
    np.testing.assert_allclose(stored(path, file, "decoder.rope.sin")[-1], np.sin(angles), atol=4e-3)
