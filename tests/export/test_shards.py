from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_makers import save_state
from memory_use import anonymous_mb
from safetensors.torch import save_file

from edge_sdk.errors import CheckpointError
from edge_sdk.export.shards import finite, open_weights

STATE = {f"w{index}": torch.arange(600.0) + index for index in range(6)}
FIRST, SECOND = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_weights(folder)
    for word in words:
        assert word in str(caught.value), caught.value


def cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize(
    ("form", "file"),
    [
        ("safetensors", "model.safetensors"),
        ("sharded", SECOND),
        ("bin", "pytorch_model.bin"),
        ("sharded-bin", "pytorch_model-00002-of-00003.bin"),
    ],
)
def test_files_cut_short(tmp_path: Path, form: Any, file: str, keep: float) -> None:
    save_state(STATE, tmp_path, form)
    cut(tmp_path / file, keep)
    refused(tmp_path, file, "whole", "again")


@pytest.mark.parametrize(("form", "file"), [("sharded", SECOND), ("sharded-bin", "pytorch_model-00003-of-00003.bin")])
def test_missing_shard(tmp_path: Path, form: Any, file: str) -> None:
    save_state(STATE, tmp_path, form)
    (tmp_path / file).unlink()
    refused(tmp_path, file, "index.json", "copy the whole folder")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{}", ("weight_map",)),
        ('{"weight_map": {}}', ("weight_map",)),
        ('{"weight_map": {"w0": null}}', ("w0", "file's name")),
        ('{"weight_map": {"w0": "../other.safetensors"}}', ("w0", "beside the index", "../other")),
        ('{"weight_map": ', ("expected JSON",)),
    ],
)
def test_index_that_names_no_file(tmp_path: Path, index: str, words: tuple[str, ...]) -> None:
    save_state(STATE, tmp_path, "sharded")
    (tmp_path / INDEX).write_text(index)
    refused(tmp_path, INDEX, *words)


def test_index_of_another_model(tmp_path: Path) -> None:
    save_state(STATE, tmp_path, "sharded")
    document = json.loads((tmp_path / INDEX).read_text())
    moved = document["weight_map"] | {"w0": SECOND}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": moved}))
    refused(tmp_path, SECOND, "tensor w0", "not in the file")
    fewer = {name: shard for name, shard in document["weight_map"].items() if name != "w3"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": fewer}))
    refused(tmp_path, FIRST, "tensor w3", "not expected")


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    save_state(STATE, tmp_path, "sharded")
    (tmp_path / SECOND).unlink()
    save_file({name: STATE[name] for name in ("w0", "w1", "w4")}, tmp_path / SECOND)
    refused(tmp_path, SECOND, "tensor w0", f"places it in {FIRST}")


def test_a_pickle_is_mapped_and_not_loaded(tmp_path: Path) -> None:
    torch.save({"w0": torch.zeros(16 * 2**20)}, tmp_path / "pytorch_model.bin")
    before = anonymous_mb()
    held = open_weights(tmp_path).read("w0")
    assert anonymous_mb() - before < 16
    assert held.numel() * 4 == 64 * 2**20


def test_a_pointer_in_place_of_weights(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    refused(tmp_path, "model.safetensors", "git lfs pull")


class Calls:
    """Unpickles by a call, as an attack would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_runs_none(tmp_path: Path) -> None:
    torch.save({"w0": STATE["w0"], "x": Calls(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "pytorch_model.bin", "tensors alone", "safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"x": 1}))
    refused(tmp_path, "pytorch_model.bin", "torch.save")


@pytest.mark.parametrize(
    ("content", "words"),
    [({"model": STATE}, "model (dict)"), (STATE | {"step": 7}, "step (int)"), ([STATE["w0"]], "list")],
)
def test_more_than_tensors(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "pytorch_model.bin", "tensors by name", words)


def test_folders_without_weights(tmp_path: Path) -> None:
    refused(tmp_path, "model.safetensors", "pytorch_model.bin", "found nothing")
    (tmp_path / "adapter_config.json").touch()
    refused(tmp_path, "found an adapter")


def test_safetensors_before_pickles(tmp_path: Path) -> None:
    save_state(STATE, tmp_path, "safetensors")
    save_state({"w9": STATE["w0"]}, tmp_path, "bin")
    assert open_weights(tmp_path).stored.keys() == STATE.keys()


@pytest.mark.parametrize("place", [0, 1, 31, 32, 1000, 4098])
def test_one_bad_value_anywhere(place: int) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for bad in (torch.nan, torch.inf, -torch.inf):
            tensor = torch.ones(4099, dtype=dtype)
            assert finite(tensor, "x") is tensor
            tensor[place] = bad
            with pytest.raises(CheckpointError, match="the place: expected finite"):
                finite(tensor, "the place")
