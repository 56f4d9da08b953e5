"""`verify --against`: a bundle whose own references agree with it, and which is still not the checkpoint's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from checkpoint_makers import save, save_adapter, tune
from language_bundles import Assembly, speaking_model
from typer.testing import CliRunner

from edge_sdk.bundle import Bundle
from edge_sdk.cli.entry import app
from edge_sdk.errors import BundleError, CheckpointError, ConfigError
from edge_sdk.export.verify import AgainstReport, verify_against
from edge_sdk.runtime import SessionOptions
from edge_sdk.verify import verify

OPTIONS = SessionOptions(threads=1)
NAMES = ("linguistic", "perception")


class Made(NamedTuple):
    checkpoint: Path
    adapters: dict[str, Path]

    def given(self) -> tuple[str, ...]:
        return tuple(f"{name}={folder}" for name, folder in self.adapters.items())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bfloat16 checkpoint, so that merging rounds, and two adapters."""
    folder, model = tmp_path_factory.mktemp("made"), speaking_model(seed=1).bfloat16()
    adapters = {name: save_adapter(tune(model, seed=seed), folder / name) for seed, name in enumerate(NAMES)}
    return Made(save(model, folder / "model"), adapters)


def assembled(made: Made, folder: Path, *, switchable: bool = True, swap: bool = False) -> Assembly:
    """Small parts; `swap` gives each adapter the other's name."""
    folders = list(made.adapters.values())
    adapters = dict(zip(NAMES, folders[::-1] if swap else folders, strict=True))
    return Assembly(made.checkpoint, folder, adapters, switchable=switchable, slots=(640,))


def failed(report: AgainstReport) -> set[str]:
    """Stages and graphs or adapters that failed."""
    return {
        f"{stage.stage} {getattr(check, 'adapter', check.graph.split('.')[0])}"
        for stage in report.stages
        for check in (*stage.outputs, *stage.answers)
        if not check.ok
    }


@pytest.mark.parametrize("switchable", [True, False], ids=["switchable", "merged"])
def test_a_right_bundle_passes_stage_by_stage(made: Made, tmp_path: Path, switchable: bool) -> None:
    bundle = assembled(made, tmp_path / "parts", switchable=switchable).write(tmp_path / "b")
    calls: list[tuple[int, int, str]] = []
    report = verify_against(
        bundle, made.checkpoint, adapters=made.given(), options=OPTIONS, on_progress=lambda *at: calls.append(at)
    )
    assert report.ok, str(report)
    stages = {stage.stage: stage for stage in report.stages}
    assert list(stages) == (["table", "exported"] if switchable else ["merged", "table", "exported"])
    assert {check.graph for check in stages["exported"].outputs} == set(bundle.manifest.graphs)
    assert len(stages["exported"].answers) == 4
    if not switchable:
        errors = [check.relative_error or 0 for check in stages["merged"].outputs]
        assert len(errors) == 2 * 5
        # Rounded to 8 bits once: more than float32's own error, and little all the same.
        assert all(1e-4 < error < 0.05 for error in errors)
        assert {answer.adapter for answer in stages["merged"].answers} == set(NAMES)
    assert all(done <= total for done, total, _ in calls)
    assert "ok" in str(report).splitlines()[-1]


def test_swapped_adapters_are_found_where_the_bundles_own_references_agree(made: Made, tmp_path: Path) -> None:
    bundle = assembled(made, tmp_path / "parts", swap=True).write(tmp_path / "b")
    assert verify(bundle, "ort", OPTIONS).ok
    report = verify_against(bundle, made.checkpoint, adapters=made.given(), options=OPTIONS)
    assert failed(report) == {"exported decoder", "exported projector", *(f"exported {name}" for name in NAMES)}


def test_another_checkpoint_is_found(made: Made, tmp_path: Path) -> None:
    bundle = assembled(made, tmp_path / "parts").write(tmp_path / "b")
    other = save(speaking_model(seed=2).bfloat16(), tmp_path / "other")
    report = verify_against(bundle, other, adapters=made.given(), options=OPTIONS)
    assert failed(report) >= {"table embedding", "exported vision", "exported decoder"}
    assert not any(stage.ok for stage in report.stages)


def written_as_if_right(assembly: Assembly, out: Path) -> Bundle:
    """The bundle as it lies in the folder, without references that could tell."""
    return assembly.write_as(out, assembly.graphs, assembly.language)


@pytest.mark.parametrize("part", ["vision", "decoder", "projector.perception"])
def test_one_wrong_matrix_in_a_weight_file_is_found(made: Made, tmp_path: Path, part: str) -> None:
    assembly = assembled(made, tmp_path / "parts")
    name = {"vision": "vision.layers.1.fc1.weight", "decoder": "decoder.layers.1.v.weight"}
    placed = assembly.files_by_name[f"{part}.weights"][name.get(part, "projector.2.weight")]
    path = assembly.folder / f"language/{part}.weights"
    data = bytearray(path.read_bytes())
    matrix = np.frombuffer(data, np.float32, placed.length // 4, placed.offset).reshape(placed.shape)
    # Permuted: every value is there, none where it belongs.
    data[placed.offset : placed.offset + placed.length] = np.roll(matrix, 1, axis=1).tobytes()
    path.write_bytes(bytes(data))
    report = verify_against(
        written_as_if_right(assembly, tmp_path / "b"), made.checkpoint, adapters=made.given(), options=OPTIONS
    )
    answers = {"exported perception"} if part.startswith("projector") else {f"exported {name}" for name in NAMES}
    assert failed(report) == {f"exported {part.split('.')[0]}"} | answers


def test_one_wrong_row_of_the_embedding_table_is_found(made: Made, tmp_path: Path) -> None:
    assembly = assembled(made, tmp_path / "parts")
    path, row = assembly.folder / "language/embed_tokens.bin", 4 * assembly.language.decoder.hidden
    data = path.read_bytes()
    path.write_bytes(data[:-row] + data[:row])
    report = verify_against(
        written_as_if_right(assembly, tmp_path / "b"), made.checkpoint, adapters=made.given(), options=OPTIONS
    )
    assert failed(report) == {"table embedding"}


def test_the_command_line_writes_the_report_and_leaves_with_4(made: Made, tmp_path: Path) -> None:
    right = assembled(made, tmp_path / "parts").write(tmp_path / "right")
    wrong = assembled(made, tmp_path / "swapped", swap=True).write(tmp_path / "wrong")
    given = [word for text in made.given() for word in ("--adapter", text)]
    for bundle, code in ((right, 0), (wrong, 4)):
        out = tmp_path / f"{bundle.folder.name}.json"
        words = ["--bundle", str(bundle.folder), "--against", str(made.checkpoint), *given, "--out", str(out)]
        found = CliRunner().invoke(app, ["verify", *words, "--json"])
        assert found.exit_code == code, found.output
        report = msgspec.json.decode(out.read_bytes(), type=AgainstReport)
        assert report.ok == (code == 0)
        assert report == msgspec.json.decode(found.stdout.splitlines()[-1], type=AgainstReport)
        assert json.loads(out.read_text())["stages"][0]["stage"] == "table"
        shown = str(report).splitlines()
        assert shown[0].split() == ["stage", "what", "error", "allowed", "cosine", "tokens"]
        assert any("linguistic by decoder.640.native" in line and "8+0/8" in line for line in shown) == report.ok


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "has the adapters linguistic, perception, given: none"),
        (("linguistic=x",), "given: linguistic; give --adapter NAME=DIR for each"),
        (("linguistic=x", "perception=x", "third=x"), "given: linguistic, perception, third"),
        (("linguistic",), "NAME=DIR"),
    ],
)
def test_adapters_that_are_not_the_bundles_are_refused(
    made: Made, tmp_path: Path, given: tuple[str, ...], words: str
) -> None:
    bundle = written_as_if_right(assembled(made, tmp_path / "parts"), tmp_path / "b")
    with pytest.raises(ConfigError, match=words):
        verify_against(bundle, made.checkpoint, adapters=given)


def test_a_checkpoint_of_another_shape_and_a_bundle_without_a_language_model(
    made: Made, tmp_path: Path, folder: Path
) -> None:
    assembly = assembled(made, tmp_path / "parts")
    sizes = msgspec.structs.replace(assembly.language.decoder, kv_heads=4)
    wide = msgspec.structs.replace(assembly.language, decoder=sizes)
    bundle = assembly.write_as(tmp_path / "b", assembly.graphs, wide)
    with pytest.raises(CheckpointError, match="decoder kv_heads 4, as bundle 'speaking' has it, found 2"):
        verify_against(bundle, made.checkpoint, adapters=made.given())
    with pytest.raises(BundleError, match="'toy' has no language model"):
        verify_against(Bundle.open(folder), made.checkpoint)
    out = CliRunner().invoke(app, ["verify", "--out", "report.json"])
    assert isinstance(out.exception, ConfigError)
