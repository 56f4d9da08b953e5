"""FP8 and 4 bits wherever they stand: the manifest says so, and a GPU without them is refused before it is built."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import onnx
import pytest
from onnx import TensorProto
from pipeline_runs import QUICK, make_inputs

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Quantisation
from edge_sdk.engine.tensorrt_library import TensorRT
from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise.recipe import QuantiseRecipe, Storage, load_quantise_recipe
from edge_sdk.hardware import Target, find_target
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.hardware.plan import Plan, plan
from edge_sdk.hardware.precision import require_precisions, require_sm
from edge_sdk.hardware.predicted import predict
from edge_sdk.toolchain import building
from edge_sdk.toolchain.quantising import quantise_bundle

FP8 = "bits = 8\nnumber = 'fp8'"
PARTS = {
    "head": f"[head]\n{FP8}",
    "vision": f"[vision]\n{FP8}",
    "exception": "[[exceptions]]\nlinears = ['down']\nlayers = [1]\nstorage = { bits = 8, number = 'fp8' }",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("numbers")
    make_inputs(root)
    return root


@pytest.fixture(scope="module", params=[*PARTS])
def part(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def bundle(part: str, folder: Path) -> Bundle:
    """Linears of 4 bits, and one part of E4M3."""
    return made(folder, part, f"[linears]\nbits = 4\nblock = 16\n{PARTS[part]}\n")


def made(folder: Path, name: str, recipe: str) -> Bundle:
    (folder / f"{name}.toml").write_text(recipe)
    settings: dict[str, Any] = QUICK | {"work": folder / "work", "keep": True, "quiet": True}
    quantise_bundle(folder / "base", folder / f"bundle.{name}", str(folder / f"{name}.toml"), **settings)
    return Bundle.open(folder / f"bundle.{name}")


def said(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle.folder / "manifest.json").read_text())["language"]["quantisation"]
    return found


def test_the_manifest_says_where_fp8_is(part: str, bundle: Bundle) -> None:
    graphs = [name for name in bundle.manifest.graphs if name.startswith(("decoder", "vision"))]
    held = {
        tensor.name
        for name in graphs
        for tensor in onnx.load(bundle.graph(name)[1], load_external_data=False).graph.initializer
        if tensor.data_type == TensorProto.FLOAT8E4M3FN
    }
    words = {"head": "head", "vision": "vision.layers.0.q.weight", "exception": "decoder.layers.1.down.weight"}
    assert any(words[part] in name for name in held)
    found = said(bundle)
    assert {key: found[key] for key in found if key.endswith("number")} == {"number": "int", f"{part}_number": "fp8"}


def watched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What TensorRT-RTX is asked to build, which is nothing as long as a bundle is refused first."""
    built: list[object] = []

    def build_engines(*order: object) -> list[object]:
        built.append(order)
        return []

    monkeypatch.setattr(building, "open_room", lambda name: SimpleNamespace(build_engines=build_engines))
    monkeypatch.setattr(building, "find_cuda_device", lambda: None)
    monkeypatch.setattr(building, "open_tensorrt", lambda flavour: TensorRT(flavour, None, "1.7.1"))
    return built


@pytest.fixture(scope="module")
def bundle_of_4_bits(folder: Path) -> Bundle:
    """One matrix of 4 bits, everything else in 8."""
    one = "[[exceptions]]\nlinears = ['down']\nlayers = [1]\nstorage = { bits = 4, block = 16 }"
    return made(folder, "four", f"[linears]\nbits = 8\n{one}\n")


@pytest.mark.parametrize("sm", [75, 80])
def test_a_gpu_that_no_compiler_gives_4_bits_is_refused_with_the_recipe_that_works(
    bundle_of_4_bits: Bundle, sm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = watched(monkeypatch)
    monkeypatch.setattr(building, "find_target", lambda name: Target(name=name, title="a card", kind="gpu", sm=sm))
    assert said(bundle_of_4_bits)["exception_bits"] == 4
    if sm == 75:
        with pytest.raises(ConfigError, match=r"holds 4-bit weights, .* sm_80 or later .* sm_75: .* recipe w8"):
            building.build(bundle_of_4_bits.folder, "rtx", target="card", quiet=True)
    else:
        building.build(bundle_of_4_bits.folder, "rtx", target="card", quiet=True)
    assert bool(built) == (sm == 80)


def test_without_a_target_the_gpu_of_this_machine_counts(
    bundle_of_4_bits: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = watched(monkeypatch)
    old = CudaDevice(name="card", sm=75, multiprocessors=40, driver="13.0", memory_mb=1e4, integrated=False)
    monkeypatch.setattr(building, "find_cuda_device", lambda: old)
    with pytest.raises(ConfigError, match=r"holds 4-bit weights, .* sm_75: .* recipe w8"):
        building.build(bundle_of_4_bits.folder, "rtx", quiet=True)
    building.build(bundle_of_4_bits.folder, "rtx", target="rtx-4090", quiet=True)
    assert len(built) == 1


@pytest.mark.parametrize("where", ["bits", "head_bits", "vision_bits", "exception_bits"])
def test_4_bits_anywhere_are_told(where: str) -> None:
    few = msgspec.convert({"recipe": "r", "bits": 8} | {where: 4}, Quantisation)
    require_sm(80, few, "b")
    require_sm(None, few, "b")
    require_sm(75, msgspec.convert({"recipe": "r", "bits": 8}, Quantisation), "b")
    with pytest.raises(ConfigError, match="holds 4-bit weights"):
        require_sm(75, few, "b")


@pytest.mark.parametrize(("target", "sm"), [("rtx-3090", 86), ("rtx-4090", 89)])
def test_a_gpu_without_fp8_is_refused_with_the_recipe_that_works(
    bundle: Bundle, target: str, sm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = watched(monkeypatch)
    if sm >= 89:
        building.build(bundle.folder, "rtx", target=target, quiet=True)
    else:
        refusal = rf'holds fp8 numbers, .* sm_89 or later .* sm_{sm}: .* recipe w8a8 .* number = "int"'
        with pytest.raises(ConfigError, match=refusal):
            building.build(bundle.folder, "rtx", target=target, quiet=True)
    assert bool(built) == (sm >= 89)


def test_a_plan_says_what_the_target_lacks(part: str, bundle: Bundle) -> None:
    orin, thor = (plan(bundle, find_target(name)) for name in ("agx-orin-64gb", "thor-t5000"))
    assert lacking(orin) == ["some of its matrices: fp8 needs a GPU of sm_89 or newer, agx-orin-64gb has sm_87"]
    assert lacking(thor) == []
    # Weights of E4M3 alone are multiplied in the graphs' own type.
    assert orin.precision["vision"] == ("w8a16" if part == "vision" else "fp32")
    assert orin.precision["decoder"] == "w4a16"


def lacking(found: Plan) -> list[str]:
    return [reason for reason in found.reasons if "needs a GPU" in reason]


def changed(bundle: Bundle, **few: Any) -> Bundle:
    """As a manifest would say it that has other words of its quantisation."""
    language = bundle.manifest.language
    assert language is not None
    quantisation = msgspec.convert({"recipe": "r", "bits": 4, "block": 16} | few, Quantisation)
    manifest = msgspec.structs.replace(
        bundle.manifest, language=msgspec.structs.replace(language, quantisation=quantisation)
    )
    return msgspec.structs.replace(bundle, manifest=manifest)


def test_the_towers_products_are_of_its_own_number(bundle: Bundle) -> None:
    tower: dict[str, Any] = {"vision_bits": 8, "vision_activation_bits": 8}
    orin = find_target("agx-orin-64gb")
    mixed = plan(changed(bundle, **tower, vision_number="fp8"), orin)
    assert (mixed.precision["vision"], mixed.precision["decoder"]) == ("fp8", "w4a16")
    assert lacking(mixed) == ["vision: fp8 needs a GPU of sm_89 or newer, agx-orin-64gb has sm_87"]
    linears: dict[str, Any] = {"bits": 8, "block": 0, "activation_bits": 8}
    whole = plan(changed(bundle, **linears, **tower, number="fp8", vision_number="int"), orin)
    assert (whole.precision["vision"], whole.precision["decoder"]) == ("w8a8", "fp8")
    # A manifest from before the tower's number was told: that of the linears.
    for number, expected in (("int", "w8a8"), ("fp8", "fp8")):
        older = plan(changed(bundle, **linears, **tower, number=number), orin)
        assert {*older.precision.values()} == {expected}


def test_whole_numbers_are_told_as_before(folder: Path) -> None:
    found = made(folder, "plain", "[linears]\nbits = 4\nblock = 16\n[[exceptions]]\nlinears = ['o']\nstorage = {}\n")
    assert {key for key in said(found) if key.endswith("number")} == {"number"}
    assert lacking(plan(found, find_target("agx-orin-64gb"))) == []


@pytest.mark.parametrize("name", PARTS)
def test_a_recipe_with_fp8_anywhere_is_refused_for_a_target_without_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(PARTS[name])
    recipe = load_quantise_recipe(tmp_path / "r.toml")
    require_precisions(find_target("thor-t5000"), recipe.precisions, "r")
    with pytest.raises(ConfigError, match=r"fp8 products, agx-orin-64gb .* take w8a8"):
        require_precisions(find_target("agx-orin-64gb"), recipe.precisions, "r")
    plain = QuantiseRecipe(linears=Storage(bits=8), head=Storage(number="fp8"))
    assert not plain.precisions  # as it is, whatever its number would be


def test_predictions_compare_with_the_element_type_of_the_graphs(bundle: Bundle) -> None:
    tower: dict[str, Any] = {"vision_bits": 8, "vision_activation_bits": 8}
    (before,) = (each for each in predict(changed(bundle)) if each.target == "agx-orin-64gb")
    (found,) = (each for each in predict(changed(bundle, **tower)) if each.target == "agx-orin-64gb")
    assert found.before_tokens_s == before.before_tokens_s
    assert found.before_mb == before.before_mb
