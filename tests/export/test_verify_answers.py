"""`verify` of whole language bundles on ONNX Runtime: a right one passes, and each wrong one is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from checkpoint_makers import save, save_adapter, tune
from language_bundles import Assembly, speaking_model
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.engine.tensorrt_library import runtime_dialects
from edge_sdk.errors import BundleError, ConfigError, RuntimeFailure, VerificationError
from edge_sdk.export.references import References, write_references
from edge_sdk.reasoning.chain import CachedDecoder, Widths
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.runtime import Array, SessionOptions
from edge_sdk.runtimes.ort import OrtRuntime
from edge_sdk.verify import VerifyReport, require, verify

OPTIONS = SessionOptions(threads=1)
NAMES = ("linguistic", "perception")


class Ready:
    """A switchable assembly, its references, and bundles of it that differ in one thing."""

    def __init__(self, folder: Path) -> None:
        model = speaking_model(seed=1)
        self.checkpoint = save(model, folder / "model")
        self.adapters = {name: save_adapter(tune(model, seed=seed), folder / name) for seed, name in enumerate(NAMES)}
        self.parts = Assembly(self.checkpoint, folder / "parts", self.adapters, switchable=True)
        self.found: References = write_references(
            self.parts.weights, self.parts.exported(), self.parts.folder, lambda *_: None
        )
        self.graphs, self.language = self.found.apply(self.parts.graphs, self.parts.language)

    def bundle(
        self, out: Path, files: dict[str, bytes] | None = None, language: Language | None = None, **graphs: Graph
    ) -> Bundle:
        """The bundle with other bytes in some files, its hashes right, and with other words in its manifest."""
        kept = {path: (self.parts.folder / path).read_bytes() for path in files or {}}
        try:
            for path, data in (files or {}).items():
                (self.parts.folder / path).write_bytes(data)
            return self.parts.write_as(out, self.graphs | graphs, language or self.language)
        finally:
            for path, data in kept.items():
                (self.parts.folder / path).write_bytes(data)

    def read(self, path: str) -> bytes:
        return (self.parts.folder / path).read_bytes()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    return Ready(tmp_path_factory.mktemp("ready"))


def test_a_right_bundle_passes_graph_by_graph_and_answer_by_answer(ready: Ready, tmp_path: Path) -> None:
    report = verify(ready.bundle(tmp_path / "b"), "ort", OPTIONS)
    assert report.ok, str(report)
    require(report)
    assert {check.graph for check in report.outputs} == set(ready.graphs)
    expected = [(name, f"decoder.640.{dialect}") for name in NAMES for dialect in ("decomposed", "native")]
    assert sorted((each.adapter, each.graph) for each in report.answers) == expected
    for each in report.answers:
        assert (each.steps, each.equal_tokens, each.near_ties, each.problem) == (8, 8, 0, None)
        assert each.relative_error is not None
        assert 0 < each.relative_error < 1e-5
        assert each.cosine == pytest.approx(1.0)
    assert report.without_reference == report.adapters_not_compared == ()
    assert "answer of perception by decoder.640.native: 8 of 8 tokens equal and 0 nearly" in str(report)
    assert msgspec.json.decode(msgspec.json.encode(report), type=VerifyReport) == report


@pytest.mark.parametrize("case", ["merged", "base"])
def test_merged_and_bare_bundles_pass_in_float16(ready: Ready, tmp_path: Path, case: str) -> None:
    adapters = ready.adapters if case == "merged" else {}
    assembly = Assembly(ready.checkpoint, tmp_path / "parts", adapters, dtype="float16", slots=(640, 704))
    report = verify(assembly.write(tmp_path / "b"), "ort", OPTIONS)
    assert report.ok, str(report)
    assert {each.graph.split(".")[-2] for each in report.answers} == {"640"}
    assert len(report.answers) == 2 * len(assembly.names)


def rolled_table(ready: Ready) -> dict[str, bytes]:
    table = ready.read("language/embed_tokens.bin")
    row = 4 * ready.parts.language.decoder.hidden
    return {"language/embed_tokens.bin": table[row:] + table[:row]}


def swapped(pattern: str) -> Callable[[Ready], dict[str, bytes]]:
    def swap(ready: Ready) -> dict[str, bytes]:
        a, b = (f"language/{pattern.format(name)}" for name in NAMES)
        return {a: ready.read(b), b: ready.read(a)}

    return swap


def permuted_projector(ready: Ready) -> dict[str, bytes]:
    """The columns of the projector's last matrix in another order, which keeps every value's size."""
    path = "language/projector.perception.weights"
    data, hidden = bytearray(ready.read(path)), ready.parts.language.decoder.hidden
    assembly = ready.parts
    placed = assembly.files_by_name["projector.perception.weights"]["projector.2.weight"]
    matrix = np.frombuffer(data, np.float32, hidden * hidden, placed.offset).reshape(hidden, hidden)
    data[placed.offset : placed.offset + placed.length] = np.roll(matrix, 1, axis=1).tobytes()
    return {path: bytes(data)}


@pytest.mark.parametrize(
    ("change", "wrong_graphs", "wrong_answers"),
    [
        (rolled_table, set(), set(NAMES)),
        (swapped("lora.{}.safetensors"), {"decoder"}, set(NAMES)),
        (swapped("projector.{}.weights"), {"projector"}, set(NAMES)),
        (permuted_projector, {"projector"}, {"perception"}),
    ],
    ids=["embedding rows one off", "LoRA of the other adapter", "projector of the other", "permuted projector"],
)
def test_a_wrong_file_is_found_though_every_hash_is_right(
    ready: Ready,
    tmp_path: Path,
    change: Callable[[Ready], dict[str, bytes]],
    wrong_graphs: set[str],
    wrong_answers: set[str],
) -> None:
    report = verify(ready.bundle(tmp_path / "b", change(ready)), "ort", OPTIONS)
    assert not report.ok
    assert {check.graph.split(".")[0] for check in report.outputs if not check.ok} == wrong_graphs
    assert {check.adapter for check in report.answers if not check.ok} == wrong_answers
    with pytest.raises(VerificationError, match="answer of perception by decoder"):
        require(report)


@pytest.mark.parametrize(
    "changes",
    [
        {"pixel_mean": (0.4, 0.5, 0.5)},
        {"compression": None},
        {"image_token": 17},
    ],
    ids=["pixels", "compression", "image token"],
)
def test_a_wrong_constant_is_found_by_the_answer_alone(ready: Ready, tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = ready.bundle(tmp_path / "b", language=msgspec.structs.replace(ready.language, **changes))
    if "pixel_mean" in changes:
        report = verify(bundle, "ort", OPTIONS)
        assert all(check.ok for check in report.outputs)
        assert not any(check.ok for check in report.answers)
    else:
        with pytest.raises(BundleError, match=r"reference answer of 'linguistic' does not fit.*image tokens"):
            verify(bundle, "ort", OPTIONS)


def test_a_cache_that_is_written_nowhere_is_found(ready: Ready, tmp_path: Path) -> None:
    name = "decoder.640.decomposed"
    entry = ready.graphs[name]
    state = tuple(each for each in entry.state if each.input != "past_value.1")
    bundle = ready.bundle(tmp_path / "b", **{name: msgspec.structs.replace(entry, state=state)})
    with pytest.raises(RuntimeFailure, match=r"past_value\.1"):
        verify(bundle, "ort", OPTIONS)


def test_only_some_graphs_are_compared_where_they_are_named(ready: Ready, tmp_path: Path) -> None:
    report = verify(ready.bundle(tmp_path / "b"), "ort", OPTIONS, graphs=["vision.96f.native"])
    assert report.ok
    assert {check.graph for check in report.outputs} == {"vision.96f.native"}
    assert report.answers == report.adapters_not_compared == ()


def test_only_the_dialects_that_a_runtime_reads_are_run(ready: Ready, tmp_path: Path) -> None:
    report = verify(ready.bundle(tmp_path / "b"), "ort", OPTIONS, dialects=["decomposed"])
    assert report.ok
    assert {check.graph.split(".")[-1] for check in report.outputs} == {"decomposed"}
    assert {each.graph for each in report.answers} == {"decoder.640.decomposed"}
    assert set(report.of_another_dialect) == {name for name in ready.graphs if name.endswith("native")}
    assert "vision.96f.native: of a dialect that ort does not read" in str(report)
    assert runtime_dialects("ort") == ("native", "decomposed")


def test_an_onnxruntime_without_native_operators_runs_the_decomposed_graphs(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    report = verify(ready.bundle(tmp_path / "b"), "ort", OPTIONS)
    assert report.ok
    assert {each.graph for each in report.answers} == {"decoder.640.decomposed"}
    assert set(report.of_another_dialect) == {name for name in ready.graphs if name.endswith("native")}


def test_tensorrt_reads_the_dialect_of_its_version() -> None:
    pytest.importorskip("tensorrt_rtx")
    assert runtime_dialects("rtx") == ("native",)


def test_an_adapter_without_an_answer_is_named(ready: Ready, tmp_path: Path) -> None:
    bare = ready.parts.language
    report = verify(ready.bundle(tmp_path / "b", language=bare), "ort", OPTIONS)
    assert report.ok
    assert report.adapters_not_compared == NAMES
    assert "answer of perception: no reference in these dialects, not compared" in str(report)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop("ids"), "expected element types"),
        (lambda t: t.update(patches=t["patches"].astype(np.int64)), "expected element types"),
        (lambda t: t.update(tokens=t["tokens"][::-1].copy()), "first of its step's top ids"),
        (lambda t: t.update({name: t[name][:0] for name in ("tokens", "top_ids", "top_logits")}), "one or more"),
        (lambda t: t.update(top_ids=t["top_ids"] + 10**6, tokens=t["tokens"] + 10**6), "expected token ids"),
        (lambda t: t.update(ids=t["ids"] + 10**6), "expected a row for each"),
    ],
    ids=["incomplete", "type", "tokens", "empty", "unknown tokens", "unknown ids"],
)
def test_a_reference_answer_of_no_use_is_one_error(
    ready: Ready, tmp_path: Path, edit: Callable[[dict[str, Array]], object], words: str
) -> None:
    path = ready.found.chains["linguistic"].file
    tensors = load_file(ready.parts.folder / path)
    edit(tensors)
    save_arrays(tensors, tmp_path / "wrong.safetensors")
    bundle = ready.bundle(tmp_path / "b", {path: (tmp_path / "wrong.safetensors").read_bytes()})
    with pytest.raises(BundleError, match=words):
        verify(bundle, "ort", OPTIONS)


def test_a_prompt_longer_than_every_cache_is_one_error(ready: Ready, tmp_path: Path) -> None:
    decoders = {
        name: msgspec.structs.replace(each, graphs=tuple(g for g in each.graphs if g.slots == 64))
        for name, each in ready.language.decoders.items()
    }
    bundle = ready.bundle(tmp_path / "b", language=msgspec.structs.replace(ready.language, decoders=decoders))
    with pytest.raises(BundleError, match=r"decoder 'base': expected a (native|decomposed) graph of \d+ slots"):
        verify(bundle, "ort", OPTIONS)


@pytest.mark.parametrize("dialect", ["native", "decomposed"])
def test_calls_of_any_width_give_the_same_and_leave_room(ready: Ready, tmp_path: Path, dialect: str) -> None:
    case = load_file(ready.parts.folder / ready.found.chains["linguistic"].file)
    ids = case["ids"][case["ids"] < 1000][-40:]
    lora = load_file(ready.parts.folder / "language/lora.linguistic.safetensors")
    entry = ready.graphs[f"decoder.64.{dialect}"]
    table = EmbeddingTable.open(ready.parts.folder / "language/embed_tokens.bin", ready.language.embedding)
    session = OrtRuntime().open(ready.parts.folder / entry.file, entry, OPTIONS)
    images = np.zeros((0, table.hidden), np.float32)
    found = []
    for widths in (Widths(prefill=40, step=1), Widths(prefill=7, step=3), Widths(prefill=1, step=8)):
        loop = CachedDecoder(session, entry.state, table, image_token=-1, fixed=lora, widths=widths)
        loop.prefill(np.roll(ids, 3), images)
        loop.restart()
        found.append([loop.prefill(ids, images), loop.step(5), loop.step(6)])
        assert (loop.used, loop.slots) == (42, 64)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)
    with pytest.raises(ConfigError, match="64 slots, found 40 tokens after 42"):
        loop.prefill(ids, images)
    with pytest.raises(ConfigError, match="at least 1 token"):
        loop.prefill(ids[:0], images)
    with pytest.raises(ConfigError, match="0 image tokens, found 2 rows"):
        loop.prefill(ids, np.zeros((2, table.hidden), np.float32))
    assert loop.used == 42


def test_prompts_are_asked_as_their_file_has_them(ready: Ready) -> None:
    asked = json.loads(ready.read("language/prompts.json"))
    for name, task in (("linguistic", "recognition"), ("perception", "crash_interval")):
        ids = load_file(ready.parts.folder / ready.found.chains[name].file)["ids"]
        assert ids[-len(asked[task]["ids"]) :].tolist() == asked[task]["ids"]
