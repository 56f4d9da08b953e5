"""A vision tower in few bits, in the proof: against the bundles' own graphs in ONNX Runtime and the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from asking_clips import make_clip
from pipeline_runs import QUICK, export, make_inputs
from quantise_cases import onnx_weights, run_plainly

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import Evidence, describe, read_proof, require_evidence
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.quantise.probe_pictures import Pictures, pictures_file
from edge_sdk.export.quantise.sequences import Sequence
from edge_sdk.export.quantise.statistics import probe_file
from edge_sdk.files import sha256_of
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")

RECIPE = "[linears]\nbits = 4\nblock = 16\n"
TOWER, PROJECTOR = "vision.96f.native", "projector.base.native"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` in full weights, `few` with a decoder in few bits, `both` with decoder and tower; `seen` of two clips."""
    root = tmp_path_factory.mktemp("tower")
    make_inputs(root)
    (root / "clips").mkdir()
    make_clip(root / "clips/one.mp4", seconds=0.5)
    make_clip(root / "clips/two.mp4", seconds=0.3, rate="20")
    calibrate(root / "base", root / "clips", root / "seen", frames=2, dtype="float32", quiet=True)
    (root / "few.toml").write_text(RECIPE)
    (root / "both.toml").write_text(f"{RECIPE}[vision]\nbits = 8\n")
    export(root / "base", root / "plain")
    how: dict[str, Any] = QUICK | {"statistics": root / "seen", "quiet": True}
    quantise_bundle(root / "base", root / "few", str(root / "few.toml"), **how)
    quantise_bundle(root / "base", root / "both", str(root / "both.toml"), sensitivity=True, **how)
    return root


def evidence(folder: Path, name: str) -> Evidence:
    return require_evidence(Bundle.open(folder / name))


def run_graph(folder: Path, name: str, graph: str, given: np.ndarray) -> np.ndarray:
    """What a bundle's graph gives in ONNX Runtime, without the rewriting that would round its inputs too."""
    path = Bundle.open(folder / name).graph(graph)[1]
    source = onnx.load(path, load_external_data=False).graph
    (found,) = (run_plainly(path, {source.input[0].name: given})[each.name] for each in source.output)
    return found


def share(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact.astype(np.float64)))


def test_the_towers_error_is_that_of_the_bundles_graphs_on_the_frames_that_were_kept(folder: Path) -> None:
    sides: dict[str, list[np.ndarray]] = {"plain": [], "both": []}
    rows: dict[str, list[np.ndarray]] = {"plain": [], "both": []}
    for number in range(2):
        kept = Pictures.load(folder / "seen" / pictures_file(number))
        patches = (kept.patches.numpy().astype(np.float32) / 255 - 0.5) / 0.5
        for name in sides:
            tokens = run_graph(folder, name, TOWER, patches)[kept.keep.numpy()]
            sides[name].append(tokens)
            rows[name].append(run_graph(folder, name, PROJECTOR, tokens))
        embeds = Sequence.load(folder / "seen" / probe_file(number, "base")).embeds
        np.testing.assert_allclose(embeds[kept.places].numpy(), rows["plain"][-1], rtol=1e-3, atol=1e-4)
    told = evidence(folder, "both").tower
    assert told is not None
    assert (told.clips, told.frames) == (2, 4)
    assert told.tokens == pytest.approx(share(*(np.concatenate(sides[name]) for name in ("both", "plain"))), rel=0.01)
    error = share(*(np.concatenate(rows[name]) for name in ("both", "plain")))
    assert told.embeds == {"base": pytest.approx(error, rel=0.01)}
    assert told.tokens > 1e-3


def test_the_kl_of_a_tower_in_few_bits_begins_at_what_it_sees(folder: Path) -> None:
    few, both = (evidence(folder, name).probes["base"] for name in ("few", "both"))
    assert (few.tower, both.tower) == (False, True)
    assert few.rows == both.rows == "answers"
    assert both.change != few.change
    (found,) = evidence(folder, "both").sensitivity
    assert found.together == both.change
    # Beside a decoder in full weights the tower alone costs something, and less than everything together.
    assert 0 < found.tower_kl < both.change.mean_kl
    assert evidence(folder, "few").tower is None


def test_every_matrix_of_the_tower_has_its_error_and_its_file_a_hash(folder: Path) -> None:
    bundle, base = Bundle.open(folder / "both"), Checkpoint.open(folder / "base")
    stored = onnx_weights(bundle.graph(TOWER)[1])
    told = {each.name: each for each in evidence(folder, "both").matrices if each.decoder == "vision"}
    assert len(told) == 6 * base.config.vision.layers
    for name, each in told.items():
        exact = base.tensor(name).float().numpy().T
        assert each.weight_error == pytest.approx(share(stored[name], exact), rel=1e-3)
        assert (each.bits, each.block, each.output_error) == (8, 0, None)
    files = evidence(folder, "both").files
    assert files["language/vision.weights"] == sha256_of(bundle.path("language/vision.weights"))
    assert "language/vision.weights" not in evidence(folder, "few").files


def test_graphs_of_tower_and_projector_are_off_where_the_tower_is_in_few_bits(folder: Path) -> None:
    both, few = (evidence(folder, name).graphs for name in ("both", "few"))
    assert both.keys() - few.keys() == {TOWER, PROJECTOR}
    assert all(0 < both[name] < 1 for name in (TOWER, PROJECTOR))
    proof = read_proof(Bundle.open(folder / "both"))
    assert proof is not None
    lines = "\n".join(describe(proof))
    assert f"graph {TOWER}: off by" in lines
    assert "vision tower on 4 frames of 2 clips: tokens off by" in lines
    assert (
        "decoder base, tokens of answers of 2 clips seen by the calibration, from the stored tower's tokens on" in lines
    )


def test_without_pictures_the_proof_says_less_and_not_something_else(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "seen", tmp_path / "seen")
    for number in range(2):
        (tmp_path / "seen" / pictures_file(number)).unlink()
    how: dict[str, Any] = QUICK | {"statistics": tmp_path / "seen", "quiet": True}
    quantise_bundle(folder / "base", tmp_path / "both", str(folder / "both.toml"), **how)
    found = evidence(tmp_path, "both")
    assert found.tower is None
    assert not found.probes["base"].tower
    assert found.probes["base"].change == evidence(folder, "few").probes["base"].change
    assert TOWER in found.graphs
