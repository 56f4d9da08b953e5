"""The proof in a bundle: what verify makes of it, scores before and after, predictions, the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asking_clips import make_clip
from mini_material import clips as scenes_of_noise
from PIL import Image
from pipeline_runs import export, make_inputs
from typer.testing import CliRunner

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.proof import EVIDENCE, SCORES, read_proof, require_evidence
from edge_sdk.cli.app import app
from edge_sdk.cli.bundle_text import describe
from edge_sdk.cli.explain import explain
from edge_sdk.errors import BundleError, ConfigError
from edge_sdk.files import sha256_of
from edge_sdk.hardware import find_target
from edge_sdk.hardware.plan import plan
from edge_sdk.hardware.predicted import predict
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.toolchain.scoring import add_scores, answer_scenes
from edge_sdk.verify import verify

SETTINGS: dict[str, Any] = {"profiles": ("24f",), "dialects": ("native",), "slots": (2048,), "dtype": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` in full weights, `few` in few bits, `scenes` with two scenes and their truths."""
    root = tmp_path_factory.mktemp("proof")
    make_inputs(root)
    (root / "w4.toml").write_text("[linears]\nbits = 4\nblock = 16\n")
    export(root / "base", root / "plain", **SETTINGS)
    quantise_bundle(root / "base", root / "few", str(root / "w4.toml"), quiet=True, **SETTINGS)
    (root / "scenes").mkdir()
    for material in scenes_of_noise(2):
        record = msgspec.structs.replace(material.record, truth=material.truth)
        (root / "scenes" / f"{record.name}.json").write_bytes(msgspec.json.encode(record))
        make_clip(root / "scenes" / f"{record.name}.mp4", seconds=0.5 + 0.5 * record.seed)
    return root


@pytest.fixture
def few(folder: Path, tmp_path: Path) -> Bundle:
    return rewrite(Bundle.open(folder / "few"), tmp_path / "few")


def test_the_evidence_names_the_weights_that_it_was_measured_on(few: Bundle) -> None:
    evidence = require_evidence(few)
    weights = {path for path in few.manifest.files if path.endswith(".weights") and "decoder" in path}
    assert evidence.files == {path: sha256_of(few.path(path)) for path in weights}
    proof = read_proof(few)
    assert proof is not None
    assert proof.problems == ()


def test_verify_prints_the_proof_and_fails_one_of_other_weights(few: Bundle, tmp_path: Path) -> None:
    report = verify(few, graphs=["projector.base.native"])
    assert report.ok
    assert "proof: answer of base: KL" in str(report)
    told = json.loads(few.path(EVIDENCE).read_bytes())
    path = "language/decoder.layers.01.weights"
    told["files"][path] = "0" * 64
    other = rewrite(few, tmp_path / "other", extra_files={EVIDENCE: json.dumps(told).encode()})
    report = verify(other, graphs=["projector.base.native"])
    assert not report.ok
    assert f"was measured on {path} of SHA-256 000000000000" in str(report)


def test_scores_of_a_bundle_beside_itself_are_equal_and_go_into_it(few: Bundle, folder: Path) -> None:
    found = add_scores(few, few, folder / "scenes", max_tokens=2)
    assert (found.clips, found.answers) == (2, 6 + 4)
    assert found.equal_answers == found.answers
    assert all(row.before == row.after for row in found.rows)
    assert {"recognition", "description", "crash_interval"} <= {row.task for row in found.rows}
    asked = [folder / "scenes" / f"scene_{n:08d}.mp4" for n in (0, 1)]
    again = Bundle.open(few.folder)
    said = [explain(str(clip), again, tasks=["recognition"]).answers["recognition"].value for clip in asked]
    right = sum(value is (number == 1) for number, value in enumerate(said))
    (accuracy,) = (row.after for row in found.rows if (row.task, row.score) == ("recognition", "accuracy"))
    assert accuracy == pytest.approx(right / 2)
    assert msgspec.json.decode(again.path(SCORES).read_bytes())["clips"] == 2
    assert any("scores on 2 clips" in line for line in describe(again))
    assert not (read_proof(again) or pytest.fail("no proof")).problems


def test_what_a_bundle_said_before_may_be_said_once(few: Bundle, folder: Path) -> None:
    plain, scenes = Bundle.open(folder / "plain"), folder / "scenes"
    said, told = answer_scenes(plain, scenes, max_tokens=2), list[tuple[int, int]]()
    found = add_scores(
        few, plain, scenes, max_tokens=2, said_before=said, on_clip=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]
    assert found == add_scores(few, plain, scenes, max_tokens=2)


def test_scenes_that_were_calibrated_on_are_refused(few: Bundle, folder: Path, tmp_path: Path) -> None:
    sha256 = sha256_of(folder / "scenes/scene_00000001.mp4")
    seen = rewrite(few, tmp_path / "seen", provenance={"calibration": {"clips": [{"sha256": sha256}]}})
    with pytest.raises(ConfigError, match=r"1 of the clips were used for calibration, such as scene_00000001\.mp4"):
        add_scores(seen, seen, folder / "scenes")
    with pytest.raises(BundleError, match="expected a quantised bundle, found full weights"):
        add_scores(Bundle.open(folder / "plain"), few, folder / "scenes")


def test_bundles_that_answer_other_tasks_are_refused(few: Bundle, folder: Path, tmp_path: Path) -> None:
    plain = Bundle.open(folder / "plain")
    assert plain.manifest.language is not None
    adapters = plain.manifest.language.adapters
    less = {name: msgspec.structs.replace(each, tasks=each.tasks[:1]) for name, each in adapters.items()}
    language = msgspec.structs.replace(plain.manifest.language, adapters=less)
    with pytest.raises(BundleError, match="expected the same tasks"):
        add_scores(few, rewrite(plain, tmp_path / "less", language=language), folder / "scenes")


def test_predictions_are_those_of_plans(few: Bundle, folder: Path) -> None:
    (found,) = (each for each in predict(few) if each.target == "agx-orin-64gb")
    plain = Bundle.open(folder / "plain")
    assert predict(plain) == ()
    whole, small = (plan(each, find_target("agx-orin-64gb")) for each in (plain, few))
    assert found.after_mb == pytest.approx(small.peak_mb, rel=1e-3)
    assert found.before_mb == pytest.approx(whole.peak_mb, rel=0.02)
    # The head and what is read of the cache keep this tiny model from four times as much.
    assert 1.5 < found.after_tokens_s / found.before_tokens_s < 8


def test_the_picture_is_drawn_and_full_weights_have_none(few: Bundle, folder: Path, tmp_path: Path) -> None:
    words = ["bundle", "show", "--picture", str(tmp_path / "errors.png"), "--bundle"]
    assert CliRunner().invoke(app, [*words, str(few.folder)]).exit_code == 0
    with Image.open(tmp_path / "errors.png") as picture:
        assert picture.size[0] == 900
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
    result = CliRunner().invoke(app, [*words, str(folder / "plain")])
    assert isinstance(result.exception, BundleError)
    assert "expected proofs of edge-sdk quantise" in str(result.exception)
