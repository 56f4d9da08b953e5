"""Checkpoints exported in few bits: the bundle's own references, what a second run makes anew, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pipeline_runs import QUICK, QUICK_WORDS, adapters, content, make_inputs
from quantise_cases import onnx_weights
from typer.testing import CliRunner

from edge_sdk.bundle import Bundle, write_bundle
from edge_sdk.cli.app import app
from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.export_recipe import settle
from edge_sdk.export.language_stages import Inputs
from edge_sdk.export.pipeline import open_plan
from edge_sdk.export.quantise.calibrate import Calibration
from edge_sdk.export.quantise.choosing import sensitivity_inputs
from edge_sdk.export.quantise.plan import QuantisedPlan
from edge_sdk.export.quantise.recipe import RECIPES, QuantiseRecipe, Scaling, Storage, load_quantise_recipe
from edge_sdk.export.quantise.stages import quantised_stages
from edge_sdk.export.quantise.statistics import Index, Statistics, write_index
from edge_sdk.hardware import find_target
from edge_sdk.hardware.plan import plan
from edge_sdk.toolchain.exporting import ExportReport
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.verify import verify

W4 = """
name = "toy-w4"
[linears]
bits = 4
block = 16
[head]
bits = 8
[[exceptions]]
linears = ["down"]
layers = [1]
storage = { bits = 8 }
[[exceptions]]
linears = ["o"]
storage = { bits = 16 }
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    (folder / "w4.toml").write_text(W4)
    return folder


def quantise(inputs: Path, out: Path, recipe: str = "w4.toml", **settings: Any) -> ExportReport:
    return quantise_bundle(inputs / "base", out, str(inputs / recipe), **(QUICK | {"quiet": True} | settings))


@pytest.fixture(scope="module")
def work(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle` and its finished stages in `stages`."""
    folder = tmp_path_factory.mktemp("bare")
    quantise(inputs, folder / "bundle", work=folder / "stages", keep=True, dialects=("native", "decomposed"))
    return folder


def test_a_bundle_gives_its_references_in_both_dialects(work: Path) -> None:
    bundle = Bundle.open(work / "bundle")
    report = verify(bundle)
    assert report.ok
    assert {answer.graph for answer in report.answers} == {"decoder.2048.native", "decoder.2048.decomposed"}
    assert all(answer.equal_tokens + answer.near_ties == answer.steps for answer in report.answers)
    assert {name: bundle.manifest.graphs[name].opset for name in bundle.manifest.graphs if "decoder" in name} == {
        "decoder.2048.native": 24,
        "decoder.2048.decomposed": 21,
    }
    assert bundle.manifest.provenance["quantise"]["name"] == "toy-w4"


def test_every_matrix_is_in_the_bits_that_the_recipe_says(work: Path, inputs: Path, tmp_path: Path) -> None:
    # The onnx package reads no weights from files that stages and bundle share by hard links.
    path = Path(shutil.copytree(work / "bundle/language", tmp_path / "copy")) / "decoder.2048.native.onnx"
    model = onnx.load(path, load_external_data=False)
    kinds = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer}
    found = {name.removeprefix("decoder.").removesuffix(".weight"): kind for name, kind in kinds.items()}
    assert (found["lm_head"], found["layers.1.down"], found["layers.0.down"]) == ("INT8", "INT8", "INT4")
    assert {found[f"layers.{layer}.o"] for layer in (0, 1)} == {"FLOAT"}
    assert {found[f"layers.0.{linear}"] for linear in ("q", "k", "v", "gate", "up")} == {"INT4"}
    weights, checkpoint = onnx_weights(path), Checkpoint.open(inputs / "base")
    for name, kind in kinds.items():
        if kind in ("INT4", "INT8") and name in checkpoint.names():
            exact = checkpoint.tensor(name).t().double().numpy()
            step = weights[f"{name}.scale"].max()
            assert np.abs(weights[name] - exact).max() < 0.51 * step


def test_a_second_run_uses_finished_layers_and_gives_the_same_bytes(inputs: Path, work: Path) -> None:
    shutil.rmtree(work / "stages/decoder.layers.01")
    settings: dict[str, Any] = {"work": work / "stages", "keep": True, "dialects": ("native", "decomposed")}
    report = quantise(inputs, work / "again", **settings)
    assert set(report.stages) == {"decoder.layers.01", "bundle"}
    assert {"decoder.layers.00", "decoder", "vision", "references"} <= set(report.reused)
    assert content(work / "again") == content(work / "bundle")


@pytest.mark.parametrize("form", [pytest.param("switchable", marks=pytest.mark.slow), "merged"])
def test_adapters_are_merged_before_rounding_or_stay_beside(inputs: Path, tmp_path: Path, form: str) -> None:
    names = ("linguistic", "perception") if form == "switchable" else ("linguistic",)
    given = adapters(inputs, *names)
    extra: dict[str, Any] = {"switchable": True} if form == "switchable" else {"merge": names}
    quantise(inputs, tmp_path / "bundle", adapters=given, **extra)
    bundle = Bundle.open(tmp_path / "bundle")
    report = verify(bundle)
    assert report.ok
    assert {answer.adapter for answer in report.answers} == set(names)
    assert all(answer.equal_tokens + answer.near_ties == answer.steps for answer in report.answers)


def test_a_layer_of_other_bytes_is_told_in_spite_of_the_tolerance(work: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(work / "bundle")
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.manifest.files}
    one = "language/decoder.layers.01.weights"
    halves = np.fromfile(bundle.path(one), np.uint8)
    files[one] = ((halves >> 4) | (halves << 4)).tobytes()
    language = bundle.manifest.language
    broken = write_bundle(
        tmp_path / "broken", name="b", version="1", graphs=bundle.manifest.graphs, files=files, language=language
    )
    assert not verify(broken, graphs=["decoder.2048.native"]).ok


def test_a_plan_counts_the_bytes_that_are_there(work: Path) -> None:
    bundle = Bundle.open(work / "bundle")
    found = plan(bundle, find_target("agx-orin-64gb"))
    assert found.precision["decoder"] == "w4a16"
    (decoder,) = (part.mb for part in found.rest if part.name == "decoder")
    stored = [
        entry.size_bytes for name, entry in bundle.manifest.files.items() if "decoder" in name and "weights" in name
    ]
    assert decoder == pytest.approx(sum(stored) / 1e6)


def test_the_command_line_quantises_and_goes_on_from_finished_stages(inputs: Path, work: Path, tmp_path: Path) -> None:
    words = ["quantise", str(inputs / "base"), "--out", str(tmp_path / "b"), "--recipe", str(inputs / "w4.toml")]
    words += ["--work", str(work / "stages"), "--keep", *QUICK_WORDS, "--dialect", "decomposed", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert set(report["stages"]) == {"bundle"}
    assert Bundle.open(tmp_path / "b").sha256 == report["sha256"]


def test_the_bundle_says_what_it_cost(work: Path, inputs: Path) -> None:
    bundle = Bundle.open(work / "bundle")
    language = bundle.manifest.language
    assert language is not None
    few = language.quantisation
    assert few is not None
    assert (few.recipe, few.bits, few.block, few.head_bits) == ("toy-w4", 4, 16, 8)
    found = json.loads(bundle.path(str(few.evidence)).read_text())
    assert len(found["matrices"]) == 2 * 6 + 1
    checkpoint, rounding = Checkpoint.open(inputs / "base"), np.random.default_rng(0)
    for each in found["matrices"]:
        weight = checkpoint.tensor(each["name"]).numpy()
        # Rounding is uniform over a step: a step / sqrt(12), for blocks of about normal values.
        normal = rounding.standard_normal((each["block"] or weight.shape[1], 1000))
        step = np.abs(normal).max(0) / (7.5 if each["bits"] == 4 else 127)
        assert each["weight_error"] == pytest.approx(np.sqrt((step**2 / 12).mean()), rel=0.3)
        assert each["output_error"] is None
    answer = found["answers"]["base"]
    assert answer["steps"] == 8
    assert 0 < answer["mean_kl"] <= answer["largest_kl"]
    assert set(found["graphs"]) == {"decoder.2048.native", "decoder.2048.decomposed"}


def test_another_recipe_makes_the_layers_anew_and_nothing_that_stays(inputs: Path, work: Path) -> None:
    (inputs / "w8.toml").write_text("[linears]\nbits = 8\n")
    settings: dict[str, Any] = {"work": work / "stages", "keep": True, "dialects": ("native", "decomposed")}
    report = quantise(inputs, work / "eight", "w8.toml", **settings)
    assert set(report.stages) == {"decoder.layers.00", "decoder.layers.01", "graphs", "references", "bundle"}
    assert verify(Bundle.open(work / "eight")).ok


def planned(root: Path, scaling: Scaling) -> tuple[Inputs, Inputs, Inputs]:
    """What an adapter's stage, the sensitivity and the calibration depend on, with adapters that stay beside."""
    given = adapters(root, "linguistic", "perception")
    order = settle(root / "base", adapters=given, switchable=True, **QUICK)
    recipe, seen = QuantiseRecipe(linears=Storage(bits=4, block=16), scaling=scaling), Statistics(root / "seen")
    plan = open_plan(order, partial(QuantisedPlan, recipe=recipe, work=root / "work", statistics=seen))
    stages = quantised_stages(order, plan, root / "work")
    lora = next(dict(stage.inputs) for stage in stages if stage.name == "lora.linguistic")
    return lora, sensitivity_inputs(plan, "base", stages), Calibration(order, (), "96f", None, True)._inputs


def test_what_was_made_of_other_files_is_not_taken_for_finished(tmp_path: Path) -> None:
    make_inputs(tmp_path)
    text = Checkpoint.open(tmp_path / "base").config.text
    (tmp_path / "seen").mkdir()
    write_index(
        tmp_path / "seen",
        Index(
            model="m",
            layers=text.layers,
            hidden=text.hidden,
            intermediate=text.intermediate,
            tokens={"base": 1},
            clips=(),
        ),
    )
    ways: tuple[Scaling, ...] = ("none", "awq")
    (plain, _, _), (folded, _, _) = (planned(tmp_path, scaling) for scaling in ways)
    os.utime(next((tmp_path / "base").glob("*.safetensors")), (1, 1))
    (plain_after, _, _), (folded_after, measured, seen) = (planned(tmp_path, scaling) for scaling in ways)
    assert plain_after == plain, "an adapter as it is has nothing of the base"
    assert folded_after != folded
    os.utime(tmp_path / "linguistic/adapter_model.safetensors", (1, 1))
    _, measured_after, seen_after = planned(tmp_path, "awq")
    assert measured_after != measured
    assert seen_after != seen
    os.utime(tmp_path / "base/vocab.json", (1, 1))
    _, same, other = planned(tmp_path, "awq")
    assert same == measured_after
    assert other != seen_after, "questions go through the tokenizer"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "[linears]\nbits = 4\nblock = 128\n",
            r"32 inputs are not a multiple of the block of 128; give block = 16 or 32",
        ),
        ("[linears]\nbits = 4\nblock = 0\n", "4 bits need a block"),
        ("[linears]\nbits = 5\n", "not usable"),
        ("[linears\n", "is not TOML"),
        ("bits = 4\n", "not usable: Object contains unknown field `bits`"),
        ('[[exceptions]]\nlinears = ["mlp"]\nstorage = {}\n', "must be some of q, k, v"),
        ('[[exceptions]]\nlinears = ["q"]\nlayers = [2]\nstorage = {}\n', "layers 0 to 1, found layer 2"),
        ('[[exceptions]]\nlinears = ["q"]\nlayers = [-1]\nstorage = {}\n', "layers 0 to 1, found layer -1"),
        ('rounding = "gptq"\n', "need statistics of activations; run edge-sdk calibrate"),
        ('export = "nothing"\n', "no recipe at"),
    ],
)
def test_recipes_that_cannot_be_met_are_refused_before_anything_is_written(
    inputs: Path, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(EdgeError, match=reason):
        quantise(inputs, tmp_path / "bundle", str(tmp_path / "recipe.toml"))
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_the_packages_recipes_load_and_an_unknown_one_names_them() -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    assert {"w4", "w8"} <= set(names)
    assert all(load_quantise_recipe(name).formats(28) and load_quantise_recipe(name).name == name for name in names)
    shipped = [load_quantise_recipe(name) for name in names]
    assert {each.linears.block for each in shipped if each.linears.bits == 4 and each.rounding == "gptq"} == {32, 128}
    with pytest.raises(ConfigError, match=", ".join(names)):
        load_quantise_recipe("w3")
