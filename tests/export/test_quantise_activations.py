"""Products of 8-bit inputs: both dialects against torch's fake quantisation, smoothing by its formula, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from asking_clips import make_clip
from onnx import numpy_helper
from ort_graphs import RandomWeights
from pipeline_runs import QUICK, make_inputs
from quantise_cases import DIALECTS, onnx_weights, run_plainly, tiny_weights
from torch import Tensor, nn

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Number, Quantisation
from edge_sdk.errors import ConfigError
from edge_sdk.export.eager import encode
from edge_sdk.export.graphs.decoder import Decoder
from edge_sdk.export.graphs.decoder_io import DecoderForm, decoder_inputs
from edge_sdk.export.graphs.decoder_onnx import decoder_graph
from edge_sdk.export.graphs.loading import load
from edge_sdk.export.graphs.vision import Grid, Vision
from edge_sdk.export.graphs.vision_onnx import vision_graph
from edge_sdk.export.graphs.weight_file import WeightFile
from edge_sdk.export.layouts import HEAD
from edge_sdk.export.quantise.activations.few_vision import FewVision
from edge_sdk.export.quantise.activations.inputs import input_scale_name, with_rounded_inputs
from edge_sdk.export.quantise.activations.smooth import input_scale, smooth_scales
from edge_sdk.export.quantise.activations.vision_statistics import FILE, VisionMaxima, merge_maxima, read_maxima
from edge_sdk.export.quantise.decoder_files import DecoderFiles, matrix_names
from edge_sdk.export.quantise.folding import FoldedWeights
from edge_sdk.export.quantise.formats import Format
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage, load_quantise_recipe
from edge_sdk.export.quantise.restored_weights import RestoredWeights
from edge_sdk.export.quantise.rewrite import with_stored
from edge_sdk.hardware import TARGETS, Target, find_target
from edge_sdk.hardware.plan import plan
from edge_sdk.hardware.precision import require_precisions, require_sm
from edge_sdk.runtime import Array
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.types import Dialect
from edge_sdk.verify import verify

LARGEST = {"qkv": 3.0, "o": 0.5, "mlp": 3.0, "down": 0.25}
GRID = Grid(rows=4, columns=4)


@contextmanager
def fake_quantised(
    module: nn.Module, scales: dict[str, float], prefix: str = "", number: Number = "int"
) -> Iterator[None]:
    """Linears of `module` take inputs that torch's own means have rounded, where there is a scale."""

    def taker(scale: float) -> Any:
        if number == "fp8":
            return lambda _, given: ((given[0] / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale,)
        return lambda _, given: (torch.fake_quantize_per_tensor_affine(given[0], scale, 0, -128, 127),)

    hooks = [
        linear.register_forward_pre_hook(taker(scales[f"{prefix}{name}"]))
        for name, linear in module.named_modules()
        if f"{prefix}{name}" in scales
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def stored_scales(path: Path, rounded: Iterable[str]) -> dict[str, float]:
    """Scales of inputs by linear, as the onnx package reads them."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    return {name.removesuffix(".weight"): float(held[input_scale_name(name)]) for name in rounded}


def fill(module: nn.Module, path: Path, prefix: str) -> None:
    """Parameters from a graph's weights as the onnx package reads them, matrices multiplied out."""
    held = onnx_weights(path)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = held[f"{prefix}{name}"]
            parameter.copy_(torch.from_numpy(value.T if value.ndim == 2 else value))


def decoder_feeds(form: DecoderForm, text: Any, rows: int = 5) -> dict[str, Array]:
    """A call of `rows` tokens behind three that lie in the cache."""
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for spec in decoder_inputs(text, form):
        shape = [{"q": rows, "r": 2}.get(str(length), length) for length in spec.shape]
        found[spec.name] = rng.standard_normal([int(length) for length in shape]).astype(np.float32)
    found["position_ids"] = np.arange(3, 3 + rows)[None]
    found["mask"] = (np.arange(form.slots) <= np.arange(3, 3 + rows)[:, None])[None, None]
    found["write_index"], found["rows"] = np.array([3]), np.array([1, rows - 1])
    return found


@pytest.mark.parametrize("number", ["int", "fp8"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_decoder_computes_what_torch_does_with_fake_quantisation_and_lora_sees_whole_inputs(
    dialect: Dialect, number: Number, tmp_path: Path
) -> None:
    weights = tiny_weights()
    text = weights.config.text
    names = matrix_names(text.layers)
    rounded: dict[str, Number] = {name: number for name in names if name != HEAD and "down" not in name}
    highest = Format(bits=8, number=number).highest
    formats = dict.fromkeys(names, Format(bits=8, number=number))

    def scale(layer: int, group: str) -> Tensor:
        return torch.tensor(LARGEST[group] * (1 + layer) / highest)

    files = DecoderFiles(weights, "float32", formats, rounded=rounded, input_scales=scale)
    for file in files.files:
        file.write(tmp_path)
    form = DecoderForm(dialect=dialect, slots=16, dtype="float32", lora_rank=4)
    graph = with_stored(decoder_graph(text, form, WeightFile(weights, "decoder", "float32")), files.places, formats)
    path = tmp_path / "graph.onnx"
    with_rounded_inputs(graph, files.places, rounded).save(path)

    model = Decoder(text, dialect).eval()
    fill(model, path, "decoder.")
    scales = stored_scales(path, rounded)
    assert scales["decoder.layers.1.q"] == scales["decoder.layers.1.v"] == pytest.approx(6 / highest)
    feeds = decoder_feeds(form, text)
    given = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.no_grad():
        exact = model(given)["logits"].numpy()
        with fake_quantised(model, scales, "decoder.", number):
            wanted = model(given)
    found = run_plainly(path, feeds)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=2e-4, rtol=2e-3, err_msg=name)
    assert np.abs(found["logits"] - exact).max() > 20 * np.abs(found["logits"] - wanted["logits"].numpy()).max()
    folders = {file.location: tmp_path for file in files.files}
    eager = load(
        RestoredWeights(weights, files.places, formats, folders, rounded), "decoder.", lambda: Decoder(text, dialect)
    )
    np.testing.assert_allclose(eager(given)["logits"].detach().numpy(), wanted["logits"].numpy(), atol=2e-4, rtol=2e-3)


class LivelyTower(RandomWeights):
    """Layers that add as much as they are given, so that rounding shows."""

    def tensor(self, name: str) -> Tensor:
        return super().tensor(name) * (10 if name.startswith("vision.layers.") else 1)


def tower() -> LivelyTower:
    return LivelyTower(tiny_weights().config)


@pytest.fixture(scope="module")
def maxima(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of the vision tower on random frames, as calibration makes them."""
    folder, whole = tmp_path_factory.mktemp("maxima"), VisionMaxima()
    patches = torch.randn(3, GRID.patches, 588, generator=torch.Generator().manual_seed(0))
    encode(tower(), [(GRID, patches)], lambda: None, whole.watch)
    whole.save(folder / FILE)
    return folder


class Seen:
    """What `FewVision` takes of statistics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def test_maxima_are_those_of_what_the_towers_linears_are_given(maxima: Path) -> None:
    config = tower().config.vision
    model = load(tower(), "vision.", lambda: Vision(config, GRID))
    seen: dict[str, Tensor] = {}
    for name in ("0.q", "1.out", "1.fc1", "0.fc2"):
        layer, linear = name.split(".")
        hook = model.layers[int(layer)].get_submodule(linear)
        hook.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].abs().amax((0, 1))}))
    with torch.no_grad():
        model(torch.randn(3, GRID.patches, 588, generator=torch.Generator().manual_seed(0)))
    held = read_maxima(maxima)
    for name, key in {"0.q": "00.qkv", "1.out": "01.out", "1.fc1": "01.fc1", "0.fc2": "00.fc2"}.items():
        torch.testing.assert_close(held[key], seen[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_tower_computes_what_torch_does_with_fake_quantisation(
    dialect: Dialect, maxima: Path, tmp_path: Path
) -> None:
    weights, recipe = tower(), load_quantise_recipe("w8a8")
    config = weights.config.vision
    few = FewVision(weights, recipe, Seen(maxima), "float32")  # type: ignore[arg-type]  # only its folder is used
    few.file.write(tmp_path)
    path = tmp_path / "vision.onnx"
    few.graph(vision_graph(config, GRID, WeightFile(weights, "vision", "float32"), dialect)).save(path)
    kinds = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds

    model = Vision(config, GRID).eval()
    fill(model, path, "vision.")
    names = {f"vision.layers.{n}.{part}.weight" for n in range(2) for part in ("q", "k", "v", "out", "fc1", "fc2")}
    patches = np.random.default_rng(1).standard_normal((2, GRID.patches, 588)).astype(np.float32)
    given = torch.from_numpy(patches)
    plain = load(weights, "vision.", lambda: Vision(config, GRID))
    with torch.no_grad(), fake_quantised(model, stored_scales(path, names), "vision."):
        wanted, exact = model(given).numpy(), plain(given).numpy()
    found = run_plainly(path, {"patches": patches})["tokens"]
    eager = encode(few.restored(weights, {"vision.weights": tmp_path}), [(GRID, given)], lambda: None)[0].numpy()
    whole, cost = np.abs(exact).max(), np.abs(wanted - exact).max()
    assert 2e-3 < cost / whole < 0.1
    # A sum that falls between two numbers may be rounded to either by another order of adding.
    assert np.abs(found - wanted).max() < cost / 4
    assert np.abs(eager - wanted).max() < cost / 4


def test_smoothing_follows_the_paper_and_changes_no_product(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    matrices = [torch.randn(6, 4, generator=rng), torch.randn(6, 3, generator=rng)]
    largest = torch.tensor([100.0, 1.0, 2.0, 0.5, 1.0, 8.0])
    found = smooth_scales(matrices, largest, 0.5).double().numpy()
    weight = np.abs(np.concatenate([m.numpy() for m in matrices], 1)).max(1)
    wanted = np.sqrt(largest.numpy() / weight)
    np.testing.assert_allclose(found / found[0], wanted / wanted[0], rtol=1e-5)
    assert found.max() * found.min() == pytest.approx(1, rel=1e-5)
    evened = largest.numpy() / found
    assert float(input_scale(largest, torch.from_numpy(found), torch.float64)) == pytest.approx(evened.max() / 127)
    assert evened.max() / np.median(evened) < 0.2 * largest.max() / largest.median()
    weights = tiny_weights()
    text, widths = weights.config.text, {"qkv": 64, "mlp": 64, "down": 96}
    scales = {(n, group): torch.rand(width, generator=rng) + 0.5 for n in (0, 1) for group, width in widths.items()}
    folded = FoldedWeights(weights, lambda layer, group: scales.get((layer, group)))
    form = DecoderForm(dialect="native", slots=16, dtype="float32")
    given = {name: torch.from_numpy(array) for name, array in decoder_feeds(form, text).items()}
    plain, moved = (load(each, "decoder.", lambda: Decoder(text, "native")) for each in (weights, folded))
    torch.testing.assert_close(plain(given)["logits"], moved(given)["logits"], rtol=1e-4, atol=1e-5)


def test_maxima_of_more_clips_are_the_largest_and_faults_are_named(maxima: Path, tmp_path: Path) -> None:
    other = VisionMaxima()
    for name, tensor in read_maxima(maxima).items():
        other.add(name, -2 * tensor[None] if name == "00.qkv" else tensor[None] / 2)
    other.save(tmp_path / "other")
    merge_maxima([maxima / FILE, tmp_path / "other"], tmp_path / FILE)
    a, b = read_maxima(maxima), read_maxima(tmp_path)
    assert torch.equal(b["00.qkv"], 2 * a["00.qkv"])
    assert torch.equal(b["01.fc1"], a["01.fc1"])
    other.add("00.qkv", torch.full((1, 32), float("inf")))
    with pytest.raises(ConfigError, match=r"vision 00\.qkv is not finite"):
        other.save(tmp_path / "bad")
    with pytest.raises(ConfigError, match="expected the vision tower's statistics"):
        read_maxima(tmp_path / "none")
    merge_maxima([maxima / FILE, tmp_path / "absent"], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 4, "block": 32, "activations": 8}, "8-bit activations are multiplied with 8-bit weights"),
        ({"bits": 8, "block": 32, "activations": 8}, "a scale for each output: give bits = 8 and block = 0"),
        ({"bits": 16, "activations": 8}, "found bits = 16"),
        ({"bits": 4, "block": 32, "number": "fp8"}, "fp8 numbers have 8 bits and a scale for each output"),
    ],
)
def test_inputs_of_8_bits_want_weights_of_8_bits(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Storage(**settings)


def test_recipes_say_what_they_need() -> None:
    few = Storage(bits=8, activations=8)
    with pytest.raises(ConfigError, match="head: its inputs are not quantised"):
        QuantiseRecipe(head=few)
    with pytest.raises(ConfigError, match="migration must be 0 to 1"):
        QuantiseRecipe(migration=1.5)
    assert QuantiseRecipe(linears=few).calibrated
    assert QuantiseRecipe(vision=few).calibrated
    assert not load_quantise_recipe("w8").calibrated
    shipped = load_quantise_recipe("w8a8")
    assert {name.split(".")[3] for name in shipped.rounded_inputs(2)} == {"q", "k", "v", "o", "gate", "up"}


def test_targets_without_a_precision_are_refused_with_the_recipe_that_works(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe fp8: expected .* fp8 products, agx-orin-64gb .* take w8a8"):
        quantise_bundle(tmp_path, tmp_path / "out", "fp8", target="agx-orin-64gb")
    few = Quantisation(recipe="r", bits=8, number="fp8")
    require_sm(89, few, "b")
    require_sm(None, few, "b")
    with pytest.raises(ConfigError, match=r"'b' holds fp8 numbers, .* sm_89 or later .* sm_87: .* w8a8"):
        require_sm(87, few, "b")
    bare = Target(name="bare", title="no tensor cores", kind="gpu", sm=75)
    for name in ("w4", "vision-int8"):
        refusal = rf"recipe {name}: .* sm_80 or later for 4-bit weights, bare .* has sm_75; take w8 for it"
        with pytest.raises(ConfigError, match=refusal):
            require_precisions(bare, load_quantise_recipe(name).precisions & {"w4a16"}, name)
    require_precisions(bare, load_quantise_recipe("w8").precisions, "w8")
    with pytest.raises(ConfigError, match=r"int8 products, bare .* take w8 for it"):
        require_precisions(bare, load_quantise_recipe("w8a8").precisions, "w8a8")
    for name in ("thor-t5000", "rtx-4090", "h200"):
        require_precisions(find_target(name), load_quantise_recipe("fp8").precisions, "fp8")
    for target in TARGETS:
        require_precisions(target, load_quantise_recipe("w4").precisions, "w4")
        if target.kind == "cpu":
            with pytest.raises(ConfigError, match="fp8 products"):
                require_precisions(target, load_quantise_recipe("fp8").precisions, "fp8")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
def test_clips_become_a_bundle_of_8_bit_activations(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips/one.mp4", seconds=0.5)
    make_clip(tmp_path / "clips/two.mp4", seconds=0.3, rate="20")
    calibrate(tmp_path / "base", tmp_path / "clips", tmp_path / "seen", frames=2, dtype="float32", quiet=True)
    settings: dict[str, Any] = QUICK | {"statistics": tmp_path / "seen", "quiet": True, "dialects": DIALECTS}
    found = []
    for name in ("a", "b"):
        quantise_bundle(tmp_path / "base", tmp_path / name, "w8a8", **settings)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.name != "manifest.json"]
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1]
    bundle = Bundle.open(tmp_path / "a")
    checked = verify(bundle)
    assert checked.ok
    assert bundle.manifest.language is not None
    few = bundle.manifest.language.quantisation
    assert few is not None
    assert (few.bits, few.activation_bits, few.vision_bits, few.vision_activation_bits) == (8, 8, 8, 8)
    assert plan(bundle, find_target("agx-orin-64gb")).precision["decoder"] == "w8a8"
    told = json.loads(bundle.path("quantise/evidence.json").read_text())
    assert all(0 < error < 0.2 for name, error in told["graphs"].items())
    assert told["graphs"].keys() == {name for name in bundle.manifest.graphs if not name.startswith("student")}
    errors = [each["weight_error"] for each in told["matrices"] if each["decoder"] == "vision"]
    assert len(errors) == 12
    assert all(0 < error < 0.02 for error in errors)
    assert 0 < told["tower"]["tokens"] < 0.1
    (tmp_path / "seen" / FILE).unlink()
    with pytest.raises(ConfigError, match="expected the vision tower's statistics"):
        quantise_bundle(tmp_path / "base", tmp_path / "c", "w8a8", **settings)
    assert msgspec.to_builtins(few)["recipe"] == "w8a8"
