"""Layers, statistics, GPTQ, AWQ and probes compute where they are told to, and what is written says where.

On machines without CUDA torch's `meta` stands for another device: it has shapes and no values, and takes no tensor that
lies elsewhere. So a run that begins there comes to the first value that is needed, and fails at that place alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from asking_clips import make_clip
from checkpoint_makers import save_both, tiny_model
from decoder_loop import lively
from pipeline_runs import QUICK, make_inputs
from torch import Tensor, nn
from typer.testing import CliRunner

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import Sensitivity
from edge_sdk.cli.app import app
from edge_sdk.errors import ConfigError, MissingDependencyError
from edge_sdk.export import device as devices
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.device import CPU, find_device
from edge_sdk.export.eager import encode, project
from edge_sdk.export.graphs.decoder import attend_grouped
from edge_sdk.export.graphs.vision import Grid
from edge_sdk.export.quantise import calibrate as calibration
from edge_sdk.export.quantise import methods as methods_module
from edge_sdk.export.quantise.awq import awq_scales
from edge_sdk.export.quantise.clip_sequences import ClipReader
from edge_sdk.export.quantise.collect import Collection, Source
from edge_sdk.export.quantise.decoder_files import linear_name, matrix_names
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.gptq import gptq
from edge_sdk.export.quantise.methods import SCALES, Methods
from edge_sdk.export.quantise.probing import Probe, Probing, nearest
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage
from edge_sdk.export.quantise.sensitivity import SensitivityRun
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import Clip, Index, Statistics, layer_file, merge_statistics, write_index
from edge_sdk.export.stage_store import StageStore
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle

META = torch.device("meta")
NO_VALUES = "meta tensor"
W4 = Format(bits=4, block=16)
RECIPE = QuantiseRecipe(rounding="gptq", scaling="awq", linears=Storage(bits=4, block=16))
LENGTHS = (40, 12, 9)


class Rounded4:
    """Weights whose matrices are read back from 4 bits. Keeps to `Weights`."""

    def __init__(self, weights: Checkpoint) -> None:
        self._weights, self.config = weights, weights.config
        self.names, self.spec = weights.names, weights.spec

    def tensor(self, name: str) -> Tensor:
        found = self._weights.tensor(name)
        return nearest(found, W4) if name in matrix_names(self.config.text.layers) else found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_both(lively(tiny_model(), 3.0), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def base(folder: Path) -> Checkpoint:
    return Checkpoint.open(folder / "base")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sequence") / "x.safetensors"
    generator = torch.Generator().manual_seed(0)
    prefix, *questions = (torch.randn(length, 32, generator=generator) for length in LENGTHS)
    Sequence.of(prefix, questions).save(path)
    return path


def collected(base: Checkpoint, sequence: Path, folder: Path, device: torch.device) -> Statistics:
    """Statistics of one sequence in `folder / "seen"`, computed on `device`."""
    text = base.config.text
    with StageStore.locked(folder / "work") as store:
        made = Collection("base", base, {"x": Source(sequence)}, {}, device).run(store, lambda done: None)
    (folder / "seen").mkdir()
    for layer, place in enumerate(made):
        shutil.copyfile(place / layer_file("base", layer), folder / "seen" / layer_file("base", layer))
    shape = {"layers": text.layers, "hidden": text.hidden, "intermediate": text.intermediate}
    clip = Clip(name="x.mp4", sha256=folder.name)
    write_index(folder / "seen", Index(model="tiny", **shape, tokens={"base": sum(LENGTHS)}, clips=(clip,)))
    return Statistics(folder / "seen")


def solved(base: Checkpoint, seen: Statistics, folder: Path, device: torch.device) -> dict[str, Tensor]:
    """AWQ's scales of each layer, and what GPTQ makes of a matrix behind them."""
    folders = tuple(folder / f"scales.{layer}" for layer in range(2))
    made = Methods(base, RECIPE, "base", RECIPE.formats(2), torch.float16, folders, seen, device)
    for layer, each in enumerate(folders):
        each.mkdir(parents=True)
        made.write_scales(layer, each)
    assert made.solver is not None
    found: dict[str, Tensor] = {}
    for linear in ("q", "up", "down"):
        name = linear_name(1, linear)
        found[f"{linear}.numbers"], found[f"{linear}.scales"] = made.solver(name, made.weights.tensor(name).t(), W4)
    return found


def costs(base: Checkpoint, sequence: Path, folder: Path, device: torch.device) -> Sensitivity:
    probes, formats = [Probe("00.base", sequence)], dict.fromkeys(matrix_names(2), W4)
    run = SensitivityRun("base", base, Rounded4(base), probes, formats, {}, device)
    with StageStore.locked(folder / "costs") as store:
        return run.run(store, lambda done: None)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


@contextmanager
def watched() -> Iterator[set[str]]:
    """The kinds of devices on which modules compute: of their weights, and of what they are given."""
    found: set[str] = set()

    def take(module: nn.Module, given: tuple[Any, ...]) -> None:
        tensors = [*module.parameters(), *(each for each in given if isinstance(each, Tensor))]
        found.update(tensor.device.type for tensor in tensors)

    hook = nn.modules.module.register_module_forward_pre_hook(take)
    try:
        yield found
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("asked", "count", "found"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_is_found_by_its_name(asked: str, count: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert str(find_device(asked)) == found


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:", "cuda:x", "cuda:-1", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--device must be auto, cpu, cuda or cuda:N, found"):
        find_device(name)


@pytest.mark.parametrize(("name", "count", "seen"), [("cuda", 0, "no CUDA device"), ("cuda:2", 2, "cuda:0, cuda:1;")])
def test_a_device_that_is_not_there_is_refused(
    name: str, count: int, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(MissingDependencyError, match=rf"--device {name}: torch .* sees {seen}.* take --device cpu"):
        find_device(name)


@pytest.mark.parametrize("verb", ["calibrate", "quantise"])
def test_the_command_line_refuses_it_before_anything_is_read(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [verb, str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--device", "cuda"]
    words += ["--clips", str(tmp_path)] if verb == "calibrate" else ["--recipe", "w4"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, MissingDependencyError)
    assert list(tmp_path.iterdir()) == []


def test_layers_and_their_sums_lie_on_the_device(
    folder: Path, base: Checkpoint, sequence: Path, tmp_path: Path
) -> None:
    for beside in (None, Adapter.open(folder / "adapter")):
        collection = Collection("base", base, {"x": Source(sequence, beside)}, {}, META)
        with (
            StageStore.locked(tmp_path / "work") as store,
            watched() as kinds,
            pytest.raises(NotImplementedError, match=NO_VALUES),
        ):
            collection.run(store, lambda done: None)
        assert kinds == {"meta"}


def test_probes_lie_on_the_device(base: Checkpoint, sequence: Path, tmp_path: Path) -> None:
    here, there = (
        Probing(base, Rounded4(base), [Probe("p", sequence)], alone=True, device=device) for device in (CPU, META)
    )
    with watched() as kinds, pytest.raises(NotImplementedError, match=NO_VALUES):
        there.layer(0, tmp_path / "0", tmp_path / "1")
    assert kinds == {"meta"}
    for layer in (0, 1):
        here.layer(layer, tmp_path / str(layer), tmp_path / str(layer + 1))
    with watched() as kinds, pytest.raises(RuntimeError, match="meta"):
        there.errors(1, tmp_path / "1", tmp_path / "2", {"q": W4})
    assert kinds == {"meta"}
    with watched() as kinds, pytest.raises(NotImplementedError, match=NO_VALUES):
        there.changes(tmp_path / "2")
    assert kinds == {"meta"}


def test_pictures_are_encoded_where_they_lie(base: Checkpoint) -> None:
    vision, grid = base.config.vision, Grid(rows=2, columns=4)
    patches = torch.empty(2, grid.patches, vision.patch_values, device="meta")
    with watched() as kinds:
        (tokens,) = encode(base, [(grid, patches)], lambda: None)
        (rows,) = project(base, [tokens.flatten(0, 1)])
    assert kinds == {"meta"}
    assert (tokens.device, rows.device, rows.shape[1]) == (META, META, base.config.text.hidden)


def test_methods_work_out_scales_and_numbers_on_the_device(
    base: Checkpoint, sequence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, given = collected(base, sequence, tmp_path, CPU), list[torch.device]()

    def scaling(matrices: dict[str, Tensor], gram: Tensor, magnitude: Tensor, *rest: object) -> Tensor:
        given.extend(each.device for each in (*matrices.values(), gram, magnitude))
        return torch.ones(len(magnitude))

    def rounding(matrix: Tensor, *rest: object) -> Tensor:
        given.append(matrix.device)
        raise KeyboardInterrupt

    monkeypatch.setattr(methods_module, "awq_scales", scaling)
    monkeypatch.setattr(methods_module, "scales_of", rounding)
    with pytest.raises(KeyboardInterrupt):
        solved(base, seen, tmp_path / "meta", META)
    assert len(given) == 2 * (3 + 2 + 3 * 2 + 1) + 1
    assert {*given} == {META}


def test_nothing_is_made_on_another_device_than_was_asked_for(base: Checkpoint, sequence: Path, tmp_path: Path) -> None:
    """With `meta` as torch's own default, a tensor that is made without a device has no values."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    stated = solved(base, collected(base, sequence, plain, CPU), plain, CPU)
    found = costs(base, sequence, plain, CPU)
    with META:
        again = solved(base, collected(base, sequence, other, CPU), other, CPU)
        assert costs(base, sequence, other, CPU) == found
    assert content(plain / "seen") == content(other / "seen")
    assert content(plain / "scales.0") == content(other / "scales.0")
    assert all(torch.equal(again[name], each) for name, each in stated.items())
    gram, matrix = torch.eye(32), torch.linspace(-1, 1, 160).reshape(32, 5)
    with META:
        numbers, scales = gptq(matrix, gram, W4, torch.float32)
        ones = awq_scales({"q": matrix}, gram, torch.ones(32, device=CPU), {}, torch.float32)
    assert (numbers.device, scales.device, ones.device) == (CPU, CPU, CPU)


def test_statistics_that_are_added_up_name_every_device(base: Checkpoint, sequence: Path, tmp_path: Path) -> None:
    one, two = (collected(base, sequence, tmp_path / name, CPU) for name in ("one", "two"))
    assert one.index.device == "cpu"
    write_index(two.folder, msgspec.structs.replace(two.index, device="cuda, a card"))
    assert merge_statistics([one.folder, two.folder], tmp_path / "sum").device == "cpu and cuda, a card"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
def test_the_device_goes_from_the_order_to_every_step_and_into_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inputs(tmp_path)
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips/one.mp4", seconds=0.3)
    make_clip(tmp_path / "clips/two.mp4", seconds=0.3, rate="20")
    settings: dict[str, Any] = {"frames": 1, "dtype": "float32", "quiet": True}
    seen = calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "seen", **settings)
    (tmp_path / "w4.toml").write_text("[linears]\nbits = 4\nblock = 16\n")
    (tmp_path / "gptq.toml").write_text("rounding = 'gptq'\n[linears]\nbits = 4\nblock = 16\n")
    (tmp_path / "awq.toml").write_text("scaling = 'awq'\n[linears]\nbits = 4\nblock = 16\n")
    how: dict[str, Any] = QUICK | {"statistics": tmp_path / "seen", "quiet": True, "device": "cpu"}
    quantise_bundle(tmp_path / "base", tmp_path / "bundle", str(tmp_path / "gptq.toml"), **how)
    evidence = json.loads(Bundle.open(tmp_path / "bundle").path("quantise/evidence.json").read_text())
    assert seen.device == evidence["device"] == "cpu"
    monkeypatch.setattr(devices, "find_device", lambda asked: META)
    with watched() as kinds, pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "none", **settings)
    assert kinds == {"meta"}  # the vision tower
    monkeypatch.setattr(calibration, "ClipReader", lambda *given: ClipReader(*given[:4]))
    with pytest.raises(NotImplementedError, match=NO_VALUES):
        calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "none", **settings)
    for recipe, further in (("gptq", {}), ("awq", {}), ("w4", {}), ("w4", {"sensitivity": True})):
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            quantise_bundle(tmp_path / "base", tmp_path / "none", str(tmp_path / f"{recipe}.toml"), **how, **further)
        shutil.rmtree(tmp_path / "none.work")


@pytest.mark.device
def test_attention_on_cuda_does_not_hold_all_scores() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    heads, tokens, device = 12, 3000, find_device("cuda")
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, count, tokens, 128, generator=generator) for count in (heads, 2, 2))
    seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
    bias = torch.zeros(()).where(seen, torch.finfo(torch.float32).min)
    given = [each.to(device) for each in (query, key, value, bias)]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    found = attend_grouped(*given)
    assert torch.cuda.max_memory_allocated(device) - before < heads * tokens**2 * 4 / 2
    torch.testing.assert_close(found.cpu(), attend_grouped(query, key, value, bias), rtol=1e-3, atol=1e-4)


@pytest.mark.device
def test_cuda_gives_what_the_cpu_gives(base: Checkpoint, sequence: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    here, there = tmp_path / "cpu", tmp_path / "cuda"
    devices = {here: CPU, there: find_device("cuda")}
    seen = {folder: collected(base, sequence, folder, device) for folder, device in devices.items()}
    for layer in (0, 1):
        for group in ("qkv", "o", "mlp", "down"):
            expected, found = (each.group("base", layer, group) for each in seen.values())
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    # Of the same statistics: a number that lies between two may fall to either, and its followers then differ too.
    expected, found = (solved(base, seen[here], folder, device) for folder, device in devices.items())
    for linear in ("q", "up", "down"):
        assert found[f"{linear}.numbers"].device == CPU
        assert (found[f"{linear}.numbers"] == expected[f"{linear}.numbers"]).float().mean() > 0.95
        torch.testing.assert_close(found[f"{linear}.scales"], expected[f"{linear}.scales"], rtol=1e-2, atol=1e-3)
    assert (there / "scales.0" / SCALES).is_file()
    one, other = (costs(base, sequence, folder, device) for folder, device in devices.items())
    assert other.together.mean_kl == pytest.approx(one.together.mean_kl, rel=1e-2)
    assert [each.kl for each in other.layers] == pytest.approx([each.kl for each in one.layers], rel=1e-2)
