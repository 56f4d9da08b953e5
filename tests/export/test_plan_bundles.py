"""Plans of exported bundles: sizes from the manifest, bytes from the files, and the dialect that a target reads."""

from __future__ import annotations

import math

import msgspec
import onnx
import pytest
from checkpoint_makers import save_adapter, tune
from language_bundles import RANK, Assembly, save_speaking, speaking_model

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import DecoderSet
from edge_sdk.hardware import find_target
from edge_sdk.hardware.numbers import ReasoningNumbers
from edge_sdk.hardware.plan import describe, model_numbers, plan
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.fitting import Need, fit

NAMES = ("linguistic", "perception")


@pytest.fixture(scope="module", params=["merged", "switchable"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model, folder = speaking_model(), tmp_path_factory.mktemp("speaking")
    checkpoint = save_speaking(model, folder / "checkpoint")
    adapters = {name: save_adapter(tune(model, rank=RANK, seed=s), folder / name) for s, name in enumerate(NAMES, 1)}
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
    assert (found.switchable, found.lora_rank) == (
        ("lora.linguistic" in str(bundle.manifest.files)),
        RANK * found.switchable,
    )
    assert model_numbers(bundle).dialects == ("native", "decomposed")


def test_bytes_are_the_files_each_once(bundle: Bundle) -> None:
    parts = {part.name: part.mb * 1e6 for part in plan(bundle, find_target("orin-nano-8gb")).rest}
    sizes = {path.name: path.stat().st_size for path in (bundle.folder / "language").iterdir()}
    stems = ["decoder"] if reasoning_of(bundle).switchable else [f"decoder.{name}" for name in NAMES]
    assert parts["vision"] == pytest.approx(sizes["vision.weights"])
    assert parts["projector"] == pytest.approx(sum(sizes[f"projector.{name}.weights"] for name in NAMES))
    assert parts["decoder"] == pytest.approx(sum(sizes[f"{stem}.weights"] for stem in stems))
    lora = sum(size for name, size in sizes.items() if name.startswith("lora."))
    assert parts.get("LoRA", 0) == parts.get("LoRA, pinned", 0) == pytest.approx(lora)
    # two adapters, two layers, keys and values, two heads of eight values of four bytes
    assert parts["KV cache"] == 2 * 640 * 2 * 2 * 2 * 8 * 4
    assert plan(bundle, find_target("x86-cpu")).mapped_mb == pytest.approx(sizes["embed_tokens.bin"] / 1e6)


def test_a_plan_holds_what_a_reasoner_says_it_holds(bundle: Bundle) -> None:
    language, shape = bundle.manifest.language, CallShape()
    assert language is not None
    calls = 128 * 32 * 4 + 128 * 8 + 128 * 640 + 8 + 8 * 8  # embeddings, positions, mask, the first slot, and rows
    for name, on_device, copies in (("x86-cpu", False, 1), ("orin-nano-8gb", True, 3)):
        needs = dict.fromkeys(NAMES, Need(slots=640, least=640))
        found = fit(bundle, language, "96f", needs, dialects=("native",), shape=shape, on_device=on_device)
        opened = {each.graph for each in found.decoders.values()} | {"vision.96f.native"}
        opened |= {language.adapters[each].projector["native"] for each in NAMES}
        graphs = sum(bundle.graph(each)[1].stat().st_size for each in opened)
        rest = [part for part in plan(bundle, find_target(name)).rest if part.name != "process"]
        # a session's scratch memory comes on top of what a reasoner counts
        planned = sum(part.mb * 1e6 for part in rest if not part.name.endswith("scratch"))
        # a LoRA file's header is no matrix
        held = found.memory_mb * 1e6 - graphs - 2 * copies * calls
        assert held == pytest.approx(planned, abs=10_000 if on_device else 1)


def test_reckoned_bytes_of_two_decoders_are_those_of_their_matrices(bundle: Bundle) -> None:
    language = bundle.manifest.language
    assert language is not None
    reckoned = msgspec.structs.replace(reasoning_of(bundle), stored_bytes=None).weight_bytes()
    stored = 0
    for decoder in language.decoders.values():
        held = onnx.load(bundle.graph(decoder.graphs[0].graph)[1], load_external_data=False).graph.initializer
        matrices = [each.dims for each in held if "rope" not in each.name and len(each.dims) == 2]
        stored += 4 * sum(math.prod(dims) for dims in matrices)
    assert reckoned["decoder"] + reckoned["head"] == stored


def test_an_adapter_that_is_asked_nothing_is_not_counted(bundle: Bundle) -> None:
    language = bundle.manifest.language
    assert language is not None
    silent = {**language.adapters, "perception": msgspec.structs.replace(language.adapters["perception"], tasks=())}
    manifest = msgspec.structs.replace(bundle.manifest, language=msgspec.structs.replace(language, adapters=silent))
    found = reasoning_of(Bundle(folder=bundle.folder, manifest=manifest, sha256=""))
    assert found.adapters == 1
    assert found.stored_bytes is not None
    assert found.stored_bytes["projector"] == (bundle.folder / "language/projector.linguistic.weights").stat().st_size


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
