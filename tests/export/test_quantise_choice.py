"""A limit of KL for a bundle of two decoders, from clips to the bundle; and that the same clips give the same bytes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
from asking_clips import make_clip
from onnx import TensorProto
from pipeline_runs import QUICK, adapters, content, make_inputs

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.proof import AnswerChange, require_evidence
from edge_sdk.errors import ConfigError
from edge_sdk.export.quantise import choosing
from edge_sdk.toolchain.calibrating import calibrate
from edge_sdk.toolchain.quantising import quantise_bundle
from edge_sdk.verify import verify

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")

NAMES = ("linguistic", "perception")
MATRICES = 14  # of two layers
TOLD_MB = 0.01  # to which sizes are told, 10^6 bytes: the room above the fewest bits, enough for some matrices
RECIPE = """
name = "small"
[linears]
bits = 4
block = 16
[head]
bits = 8
"""


ROUNDED_RECIPE = """
name = "rounded"
[linears]
bits = 8
activations = 8
number = "{number}"
[head]
bits = 8
"""
SCALED_RECIPE = """
name = "scaled"
rounding = "gptq"
scaling = "awq"
[linears]
bits = 4
block = 16
[head]
bits = 8
"""


class Case(NamedTuple):
    """As `Made`, and a bundle made within a budget."""

    root: Path
    how: dict[str, Any]
    budget_mb: float
    within: Bundle


class Made(NamedTuple):
    """A checkpoint with two adapters, and how it is quantised: with what calibration has seen of two clips."""

    root: Path
    how: dict[str, Any]


@pytest.fixture(scope="module", params=["merged", pytest.param("switchable", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp(request.param)
    make_inputs(root)
    (root / "clips").mkdir()
    make_clip(root / "clips/one.mp4", seconds=0.5)
    make_clip(root / "clips/two.mp4", seconds=0.3, rate="20")
    (root / "small.toml").write_text(RECIPE)
    form: dict[str, Any] = {"merge": NAMES} if request.param == "merged" else {"switchable": True}
    how = QUICK | {"adapters": adapters(root, *NAMES), "quiet": True} | form
    calibrate(root / "base", root / "clips", root / "seen", frames=2, **{k: v for k, v in how.items() if k != "slots"})
    return Made(root, how | {"statistics": root / "seen"})


@pytest.fixture(scope="module")
def case(made: Made) -> Case:
    root, how = made
    with pytest.raises(ConfigError, match=r"--budget-mb 0\.1: the decoder takes at least") as refused:
        quantise(root, root / "none", how, budget_mb=0.1)
    (least,) = re.findall(r"at least ([\d.]+) MB", str(refused.value))
    budget_mb = float(least)  # what the refusal says is enough
    return Case(root, how, budget_mb, quantise(root, root / "within", how, budget_mb=budget_mb))


def quantise(root: Path, out: Path, how: dict[str, Any], recipe: str = "small", **limits: Any) -> Bundle:
    quantise_bundle(root / "base", out, str(root / f"{recipe}.toml"), **how, **limits)
    return Bundle.open(out)


def whole_kl(bundle: Bundle) -> float:
    """What the weights and inputs that were written cost, over the probes of all decoders."""
    changes = [each.change for each in require_evidence(bundle).probes.values()]
    return sum(each.mean_kl * each.steps for each in changes) / sum(each.steps for each in changes)


def decoders_mb(bundle: Bundle) -> float:
    """10^6 bytes of the decoders' weight files."""
    files = bundle.manifest.files
    names = [name for name in files if name.startswith("language/decoder") and name.endswith(".weights")]
    return sum(files[name].size_bytes for name in names) / 1e6


def assert_as_chosen(bundle: Bundle, kept: dict[str, int], fewest: int = 4) -> None:
    """Every decoder's graph has what is kept in so many bits, the rest in `fewest`, as the onnx package reads it."""
    sizes = {TensorProto.INT4: 4, TensorProto.INT8: 8, TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT: 16}
    for graph in (name for name in bundle.manifest.graphs if name.startswith("decoder")):
        held = onnx.load(bundle.graph(graph)[1], load_external_data=False).graph.initializer
        linears = [each for each in held if ".layers." in each.name and each.name.endswith(".weight")]
        found = {each.name: sizes[each.data_type] for each in linears if len(each.dims) == 2}
        assert len(found) == MATRICES
        assert found == {name: kept.get(name, fewest) for name in found}


def test_a_budget_is_kept_and_spent_on_some_matrices(case: Case) -> None:
    evidence = require_evidence(case.within)
    assert evidence.choice is not None
    kept = {each.name: each.bits for each in evidence.choice.kept}
    assert kept
    assert sum(each.more_mb for each in evidence.choice.kept) <= TOLD_MB
    assert decoders_mb(case.within) == pytest.approx(evidence.choice.size_mb, abs=1e-6)
    assert decoders_mb(case.within) <= case.budget_mb
    assert evidence.choice.measured_kl < evidence.choice.lowest_kl
    assert_as_chosen(case.within, kept)


def test_a_limit_is_met_by_all_decoders_together_and_the_same_clips_give_the_same_bytes(
    case: Case, tmp_path: Path
) -> None:
    lowest = require_evidence(case.within).choice
    assert lowest is not None
    limit = lowest.lowest_kl / 2
    one, other = (quantise(case.root, tmp_path / name, case.how, max_kl=limit) for name in ("one", "other"))
    assert content(one.folder) == content(other.folder)
    evidence, language = require_evidence(one), one.manifest.language
    assert language is not None
    assert len(language.decoders) == (2 if "merge" in case.how else 1)
    assert {each.decoder for each in evidence.sensitivity} == evidence.probes.keys() == language.decoders.keys()
    choice = evidence.choice
    assert choice is not None
    assert choice.lowest_kl == lowest.lowest_kl > limit >= choice.measured_kl
    assert choice.kept
    assert_as_chosen(one, {each.name: each.bits for each in choice.kept})
    # The bundle's own weights cost what was measured of the choice before they were made.
    assert whole_kl(one) == pytest.approx(choice.measured_kl, rel=1e-3)
    assert verify(one).ok


@pytest.mark.parametrize(("within", "choices"), [(False, "5"), (True, "[1-4]")])
def test_a_limit_that_no_measured_choice_meets_is_refused_with_what_was_found(
    case: Case, within: bool, choices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts say that a choice meets the limit; every whole that is measured has ten times as much."""
    lowest = require_evidence(case.within).choice
    assert lowest is not None
    # Between all in few bits and the best that the budget holds: parts say yes to it, and no to much tighter ones.
    limit, asked = (lowest.lowest_kl + lowest.expected_kl) / 2, list[float]()

    def beyond(*args: Any) -> AnswerChange:
        asked.append(10 * limit)
        return AnswerChange(steps=1, equal_tokens=0, mean_kl=10 * limit, largest_kl=10 * limit)

    monkeypatch.setattr(choosing, "measure_together", beyond)
    how = case.how | {"work": tmp_path / "work"}
    limits = {"max_kl": limit} | ({"budget_mb": case.budget_mb} if within else {})
    with pytest.raises(ConfigError) as refused:
        quantise(case.root, tmp_path / "out", how, **limits)
    said = str(refused.value)
    begin = re.escape(f"--max-kl {limit:g}: expected a choice with at most this KL; ")
    found = re.match(rf"{begin}({choices}) choices? (was|were) measured", said)
    assert found
    assert f"the last has {10 * limit:.3g} in " in said
    assert said.endswith("MB; give that as the limit, or a recipe of more bits")
    assert len(asked) == int(found[1]) * (2 if "merge" in case.how else 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["int", pytest.param("fp8", marks=pytest.mark.slow)])
def test_a_limit_is_met_where_inputs_are_rounded_too(made: Made, number: str, tmp_path: Path) -> None:
    (made.root / "rounded.toml").write_text(ROUNDED_RECIPE.format(number=number))
    plain = quantise(made.root, tmp_path / "plain", made.how, "rounded", sensitivity=True)
    limit = whole_kl(plain) / 2
    chosen = quantise(made.root, tmp_path / "chosen", made.how, "rounded", max_kl=limit)
    choice = require_evidence(chosen).choice
    assert choice is not None
    assert choice.kept
    assert_as_chosen(chosen, {each.name: each.bits for each in choice.kept}, fewest=8)
    assert whole_kl(chosen) == pytest.approx(choice.measured_kl, rel=1e-3)
    assert whole_kl(chosen) <= limit < choice.lowest_kl
    # The scales of inputs are part of both.
    assert decoders_mb(chosen) == pytest.approx(choice.size_mb, abs=1e-6)
    assert decoders_mb(plain) == pytest.approx(choice.lowest_mb, abs=1e-6)


@pytest.mark.parametrize("share", [0.7, pytest.param(0.3, marks=pytest.mark.slow)])
def test_a_limit_is_met_by_what_is_written_where_scales_go_by_formats(made: Made, share: float, tmp_path: Path) -> None:
    """A matrix in more bits changes the scales, and so the numbers, of all that share its inputs."""
    (made.root / "scaled.toml").write_text(SCALED_RECIPE)
    plain = quantise(made.root, tmp_path / "plain", made.how, "scaled", sensitivity=True)
    limit = share * whole_kl(plain)
    chosen = quantise(made.root, tmp_path / "chosen", made.how, "scaled", max_kl=limit)
    choice = require_evidence(chosen).choice
    assert choice is not None
    assert choice.kept
    assert_as_chosen(chosen, {each.name: each.bits for each in choice.kept})
    assert whole_kl(chosen) == pytest.approx(choice.measured_kl, rel=1e-6)
    assert whole_kl(chosen) <= limit < choice.lowest_kl
