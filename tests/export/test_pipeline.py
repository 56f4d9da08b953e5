"""Exports from checkpoint to bundle: what is in it, against peft and transformers; and what a second run makes anew."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from asking_bundles import watching
from checkpoint_makers import Form, LayoutName, canonical_state, merged_model, save
from numpy.typing import NDArray
from onnx import numpy_helper
from pipeline_runs import QUICK_WORDS, adapters, content, export, make_inputs
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from toy_tokenizer import write_checkpoint_files

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.bundle.student_part import student_part
from edge_sdk.cli.bundle_text import describe
from edge_sdk.errors import ConfigError
from edge_sdk.export.peak_memory import PeakMemory
from edge_sdk.hardware import find_target
from edge_sdk.hardware.plan import plan
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.tasks import TASK_IDS, find_task
from edge_sdk.toolchain.exporting import ExportReport
from edge_sdk.toolchain.exporting import describe as describe_report
from edge_sdk.verify import verify


class Inputs(NamedTuple):
    folder: Path
    base: Path
    model: Any
    tuned: dict[str, Any]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    model, tuned = make_inputs(folder)
    return Inputs(folder, folder / "base", model, tuned)


@pytest.fixture(scope="module")
def both_report(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Both adapters over one decoder, float16, both dialects and profiles, with the demo bundle's student."""
    return export(
        inputs.base,
        tmp_path_factory.mktemp("both") / "bundle",
        adapters=adapters(inputs.folder, "linguistic", "perception"),
        switchable=True,
        dtype="float16",
        dialects=("native", "decomposed"),
        profiles=("96f", "48f"),
        student=watching().folder,
    )


@pytest.fixture(scope="module")
def both(both_report: ExportReport) -> Bundle:
    return Bundle.open(both_report.bundle)


def language(bundle: Bundle) -> Language:
    assert bundle.manifest.language is not None
    return bundle.manifest.language


def held(bundle: Bundle, graph: str) -> dict[str, NDArray[Any]]:
    """The weights that a graph reads, by the onnx package's own reader."""
    model = onnx.load(bundle.graph(graph)[1])
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_a_merged_bundle_holds_pefts_own_sums(inputs: Inputs, tmp_path: Path) -> None:
    names = ("linguistic", "perception")
    export(inputs.base, tmp_path / "out", adapters=adapters(inputs.folder, *names), merge=names)
    bundle = Bundle.open(tmp_path / "out")
    for name in names:
        state = canonical_state(merged_model(inputs.tuned[name]))
        found = held(bundle, f"decoder.{name}.2048.native") | held(bundle, f"projector.{name}.native")
        linears = [key for key in found if key.startswith(("decoder.layers", "projector.")) and found[key].ndim == 2]
        assert len(linears) == 2 * 7 + 2
        for key in linears:
            np.testing.assert_allclose(found[key], state[key].detach().numpy().T, rtol=0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert verify(bundle).ok


def test_a_switchable_bundle_holds_the_adapters_beside_the_weights(inputs: Inputs, both: Bundle) -> None:
    state = canonical_state(inputs.model)
    found = held(both, "decoder.2048.decomposed")
    for key in ("decoder.layers.0.q.weight", "decoder.layers.1.down.weight", "decoder.lm_head.weight"):
        assert np.array_equal(found[key], state[key].detach().half().numpy().T)
    for name, tuned in inputs.tuned.items():
        lora = load_file(both.path(language(both).adapters[name].lora or ""))
        assert len(lora) == 2 * 2 * 7
        a, b = lora["lora.1.gate.a"], lora["lora.1.gate.b"]
        product = merged_model(tuned).state_dict()["model.language_model.layers.1.mlp.gate_proj.weight"]
        change = product - inputs.model.state_dict()["model.language_model.layers.1.mlp.gate_proj.weight"]
        np.testing.assert_allclose(a.astype(np.float32) @ b.astype(np.float32), change.numpy().T, rtol=0, atol=2e-3)
    assert verify(both).ok


def test_names_are_those_that_devices_look_for(both: Bundle) -> None:
    dialects = ("native", "decomposed")
    expected = {f"vision.{profile}.{dialect}" for profile in ("96f", "48f") for dialect in dialects}
    expected |= {f"projector.{name}.{dialect}" for name in ("linguistic", "perception") for dialect in dialects}
    expected |= {f"decoder.2048.{dialect}" for dialect in dialects}
    assert set(both.manifest.graphs) == expected | {"student"}
    weights = {path for path in both.manifest.files if path.endswith(".weights")}
    assert weights == {
        "language/vision.weights",
        "language/projector.linguistic.weights",
        "language/projector.perception.weights",
        "language/decoder.weights",
    }
    for key in expected:
        reference = both.manifest.graphs[key].reference
        assert reference is not None
        assert reference.file == f"reference/{key}.safetensors"
    for name, adapter in language(both).adapters.items():
        assert adapter.reference is not None
        assert adapter.reference.file == f"reference/chain.{name}.safetensors"


def test_adapters_named_after_a_kind_answer_that_kind(both: Bundle) -> None:
    tasks = {name: adapter.tasks for name, adapter in language(both).adapters.items()}
    assert tasks == {
        "linguistic": ("recognition", "description", "cause", "prevention"),
        "perception": ("crash_interval", "pre_crash_time"),
    }


def test_the_embedding_table_is_the_checkpoints(inputs: Inputs, both: Bundle) -> None:
    table = language(both).embedding
    found = np.fromfile(both.path(table.file), table.dtype).reshape(table.vocab, table.hidden)
    expected = inputs.model.get_input_embeddings().weight.detach().half().numpy()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("form", ["merged", "switchable"])
def test_a_tied_table_is_in_a_bundle_once(tmp_path: Path, form: str) -> None:
    model, tuned = make_inputs(tmp_path, tied=True)
    names = tuple(tuned)
    how: dict[str, Any] = {"switchable": True} if form == "switchable" else {"merge": names}
    export(
        tmp_path / "base",
        tmp_path / "out",
        adapters=adapters(tmp_path, *names),
        dialects=("native", "decomposed"),
        **how,
    )
    bundle = Bundle.open(tmp_path / "out")
    assert "language/embed_tokens.bin" not in bundle.manifest.files
    entry = language(bundle).embedding
    assert entry.file == f"language/{'decoder' if form == 'switchable' else f'decoder.{names[0]}'}.weights"
    table, expected = EmbeddingTable.open(bundle.path(entry.file), entry), model.get_input_embeddings().weight.detach()
    np.testing.assert_array_equal(table.rows(np.arange(entry.vocab)), expected.numpy())
    heads = [held(bundle, graph)["decoder.lm_head.weight"] for graph in bundle.manifest.graphs if "decoder" in graph]
    assert len(heads) == (2 if form == "switchable" else 4)
    for head in heads:
        np.testing.assert_array_equal(head, expected.numpy())
    assert plan(bundle, find_target("x86-cpu")).mapped_mb == pytest.approx(expected.numel() * 4 / 1e6)
    assert verify(bundle).ok


def test_prompts_are_the_tasks_words(both: Bundle) -> None:
    prompts = json.loads(both.path(language(both).prompts).read_text())
    assert tuple(prompts) == TASK_IDS
    tokenizer = Tokenizer.from_file(str(both.path(language(both).tokenizer)))
    for task, prompt in prompts.items():
        asked = f"\n{find_task(task).prompt}<|im_end|>\n<|im_start|>assistant\n"
        assert prompt["text"] == find_task(task).prompt
        assert tokenizer.encode(asked, add_special_tokens=False).ids == prompt["ids"]


def test_the_student_is_the_other_bundles(both: Bundle) -> None:
    other = watching()
    assert both.manifest.student == other.manifest.student
    assert both.manifest.demo == other.manifest.demo
    assert both.manifest.graphs["student"] == other.manifest.graphs["student"]
    assert content(other.folder).items() <= content(both.folder).items()
    # Copies: the other bundle may be changed.
    assert both.path("student.onnx").stat().st_nlink == 1
    # However often it is taken over, it is known where it was made.
    assert student_part(both.folder).provenance == both.manifest.provenance["student"]
    assert both.manifest.provenance["student"]["sha256"] == other.sha256


def test_what_is_shown_names_the_parts(both: Bundle) -> None:
    lines = "\n".join(describe(both))
    for part in ("profile 96f: 96 frames of 364x196 at 10 Hz, 8,736 tokens", "2,048 slots, LoRA inputs of rank 4"):
        assert part in lines
    assert "adapter perception: decoder base, switchable, answers crash_interval, pre_crash_time" in lines


@pytest.fixture(scope="module")
def bare(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportReport, Path]:
    """An export without adapters, and the folder that holds its bundle `out` and its stages `work`."""
    folder = tmp_path_factory.mktemp("bare")
    return export(inputs.base, folder / "out", keep=True, work=folder / "work"), folder


@pytest.mark.parametrize(("layout", "form"), [("crashchat", "sharded-bin"), ("transformers", "safetensors")])
def test_every_public_layout_gives_the_same_bundle(
    inputs: Inputs, bare: tuple[ExportReport, Path], tmp_path: Path, layout: LayoutName, form: Form
) -> None:
    save(inputs.model, tmp_path / "base", layout, form)
    write_checkpoint_files(tmp_path / "base")
    export(tmp_path / "base", tmp_path / "out")
    assert content(tmp_path / "out") == content(bare[1] / "out")


def kept_work(bare: tuple[ExportReport, Path], tmp_path: Path) -> dict[str, Any]:
    """Settings for another run over a copy of the finished stages."""
    shutil.copytree(bare[1] / "work", tmp_path / "work")
    return {"work": tmp_path / "work", "keep": True}


def test_a_report_for_people_has_a_line_for_each_part(both_report: ExportReport, both: Bundle) -> None:
    lines = describe_report(both_report).splitlines()
    assert [line.split()[0] for line in lines[:-2]] == list(both_report.parts)
    assert lines[-1] == f"sha256 {both.sha256}"
    assert sum(both_report.parts.values()) == both_report.size_bytes


def test_without_an_adapter_the_checkpoint_itself_answers(bare: tuple[ExportReport, Path]) -> None:
    report, bundle = bare[0], Bundle.open(bare[1] / "out")
    assert list(language(bundle).adapters) == ["base"]
    assert language(bundle).adapters["base"].tasks == TASK_IDS
    assert report.sha256 == bundle.sha256
    assert report.size_bytes == sum(path.stat().st_size for path in bundle.folder.rglob("*/*") if path.is_file())
    assert sum(report.parts.values()) == report.size_bytes
    assert verify(bundle).ok


def test_an_export_holds_little_of_its_own(inputs: Inputs, tmp_path: Path) -> None:
    """Beside what the process has held already: other tests may have left it anything."""
    held_mb = PeakMemory().mb
    report = export(inputs.base, tmp_path / "out")
    assert held_mb is None or report.peak_mb is not None
    assert report.peak_mb is None or report.peak_mb < (held_mb or 0.0) + 400


def test_the_disk_holds_each_weight_once(bare: tuple[ExportReport, Path]) -> None:
    stage, bundle = bare[1] / "work" / "decoder" / "language", bare[1] / "out" / "language"
    assert (stage / "decoder.weights").samefile(bundle / "decoder.weights")


def test_a_second_run_makes_what_changed(inputs: Inputs, tmp_path: Path) -> None:
    tuned = {"adapters": adapters(inputs.folder, "linguistic"), "keep": True, "work": tmp_path / "work"}
    parts = {"tokenizer", "embedding", "vision", "projector.linguistic", "decoder.linguistic", "graphs", "references"}
    report = export(inputs.base, tmp_path / "a", **tuned)
    assert report.stages.keys() == report.processor_s.keys() == parts | {"bundle"}
    assert 0 < sum(report.processor_s.values()) < 64 * report.seconds
    again = export(inputs.base, tmp_path / "b", **tuned)
    assert set(again.stages) == {"bundle"}
    assert set(again.reused) == parts
    # Other graphs: no weight is written again.
    slots = export(inputs.base, tmp_path / "c", **tuned, slots=(64, 2048))
    assert set(slots.stages) == {"graphs", "references", "bundle"}
    # Another form of the adapter: the parts that do not know it stay.
    switched = export(inputs.base, tmp_path / "d", **tuned, switchable=True)
    assert set(switched.reused) == {"tokenizer", "embedding", "vision", "projector.linguistic"}
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_another_element_type_changes_every_weight(
    inputs: Inputs, bare: tuple[ExportReport, Path], tmp_path: Path
) -> None:
    report = export(inputs.base, tmp_path / "out", **kept_work(bare, tmp_path), dtype="float16")
    assert report.reused == ("tokenizer",)


def test_a_touched_shard_is_another_checkpoint(inputs: Inputs, bare: tuple[ExportReport, Path], tmp_path: Path) -> None:
    shard = inputs.base / "model-00002-of-00003.safetensors"
    before_ns = shard.stat().st_mtime_ns
    os.utime(shard, ns=(before_ns, before_ns + 1))
    try:
        report = export(inputs.base, tmp_path / "out", **kept_work(bare, tmp_path))
    finally:
        os.utime(shard, ns=(before_ns, before_ns))
    assert report.reused == ("tokenizer", "graphs")


def test_a_damaged_stage_is_made_anew(inputs: Inputs, bare: tuple[ExportReport, Path], tmp_path: Path) -> None:
    again = kept_work(bare, tmp_path)
    weights = tmp_path / "work" / "vision" / "language" / "vision.weights"
    status, data = weights.stat(), weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "work" / "embedding" / "language" / "embed_tokens.bin").unlink()
    (tmp_path / "work" / "decoder.tmp-99999999-0123abcd").mkdir()  # a killed run's
    assert set(export(inputs.base, tmp_path / "out", **again).stages) == {"vision", "embedding", "bundle"}
    assert content(tmp_path / "out") == content(bare[1] / "out")
    assert not list((tmp_path / "work").glob("*.tmp-*"))


def test_the_command_line_ends_with_one_document(inputs: Inputs, tmp_path: Path) -> None:
    words = ["export", str(inputs.base), "--out", str(tmp_path / "out"), "--json", *QUICK_WORDS]
    sdk = Path(sys.executable).with_name("edge-sdk")
    result = subprocess.run([str(sdk), *words], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["bundle"] == str(tmp_path / "out")
    assert document["sha256"] == hashlib.sha256((tmp_path / "out" / "manifest.json").read_bytes()).hexdigest()
    assert set(document["stages"]) == set(document["parts"]) | {"bundle"}
    assert document["parts"]["decoder"] == (tmp_path / "out" / "language" / "decoder.weights").stat().st_size
    assert document["reused"] == []


def test_an_existing_bundle_is_not_overwritten(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        export(inputs.base, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_more_slots_than_positions_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="32768 positions"):
        export(inputs.base, tmp_path / "out", slots=(40_000,))
    assert not list(tmp_path.iterdir())
