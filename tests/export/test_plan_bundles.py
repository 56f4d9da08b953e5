"""Plans of exported bundles: sizes from the manifest, bytes from the files, and the dialect that a target reads."""

from __future__ import annotations

import msgspec
import pytest
from checkpoint_makers import save_adapter, tune
from language_bundles import RANK, Assembly, save_speaking, speaking_model

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import DecoderSet
from edge_sdk.hardware import find_target
from edge_sdk.hardware.numbers import ReasoningNumbers
from edge_sdk.hardware.plan import describe, model_numbers, plan


@pytest.fixture(scope="module", params=["merged", "switchable"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model, folder = speaking_model(), tmp_path_factory.mktemp("speaking")
    checkpoint = save_speaking(model, folder / "checkpoint")
    adapters = {name: save_adapter(tune(model, rank=RANK, seed=s), folder / name) for s, name in enumerate("ab", 1)}
    assembly = Assembly(checkpoint, folder / "parts", adapters, switchable=request.param == "switchable")
    return assembly.write_as(folder / "bundle", assembly.graphs, assembly.language)


def reasoning_of(bundle: Bundle) -> ReasoningNumbers:
    found = model_numbers(bundle).reasoning
    assert found is not None
    return found


def test_sizes_are_the_manifests_for_the_longest_clip_and_the_largest_cache(bundle: Bundle) -> None:
    found = reasoning_of(bundle)
    assert (found.decoder.layers, found.decoder.hidden, found.vision.hidden) == (2, 32, 24)
    # 84 x 56 pixels are 6 x 4 patches
    assert (found.frames, found.patches, found.slots) == (96, 24, 640)
    assert (found.precision, found.vision_precision, found.adapters) == ("fp32", "fp32", 2)
    assert (found.switchable, found.lora_rank) == (("lora.a" in str(bundle.manifest.files)), RANK * found.switchable)
    assert model_numbers(bundle).dialects == ("native", "decomposed")


def test_bytes_are_the_files_each_once(bundle: Bundle) -> None:
    parts = {part.name: part.mb * 1e6 for part in plan(bundle, find_target("orin-nano-8gb")).rest}
    sizes = {path.name: path.stat().st_size for path in (bundle.folder / "language").iterdir()}
    decoders = ["decoder.weights"] if reasoning_of(bundle).switchable else ["decoder.a.weights", "decoder.b.weights"]
    assert parts["vision"] == pytest.approx(sizes["vision.weights"])
    assert parts["projector"] == pytest.approx(sizes["projector.a.weights"] + sizes["projector.b.weights"])
    assert parts["decoder"] == pytest.approx(sum(sizes[name] for name in decoders))
    assert parts.get("LoRA", 0) == pytest.approx(sum(size for name, size in sizes.items() if name.startswith("lora.")))
    # two layers, keys and values, two heads of eight values of four bytes
    assert parts["KV cache"] == 640 * 2 * 2 * 2 * 8 * 4
    assert plan(bundle, find_target("x86-cpu")).mapped_mb == pytest.approx(sizes["embed_tokens.bin"] / 1e6)


def test_a_bundle_without_the_targets_dialect_says_so(bundle: Bundle) -> None:
    language = bundle.manifest.language
    assert language is not None
    decoders = {
        name: DecoderSet(graphs=tuple(g for g in each.graphs if g.dialect == "native"), lora_rank=each.lora_rank)
        for name, each in language.decoders.items()
    }
    manifest = msgspec.structs.replace(bundle.manifest, language=msgspec.structs.replace(language, decoders=decoders))
    partly = Bundle(folder=bundle.folder, manifest=manifest, sha256="")
    orin = find_target("orin-nano-8gb")
    assert plan(partly, orin, tensorrt="10.16.2").reasons == ()
    found = plan(partly, orin, tensorrt="10.3.0")
    assert found.reasons == (
        "TensorRT 10.3.0 reads decomposed graphs, and not every part of speaking has one; "
        "export it again with --dialect decomposed",
    )
    assert "no: TensorRT 10.3.0" in describe(found)
    # ONNX Runtime reads both, and takes what is there
    assert plan(partly, find_target("x86-cpu")).dialect == "native"
