"""A student in 8 bits: against torch's fake quantisation, on both runtimes' terms, and what is refused."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quantise_cases import optimised, run_plainly
from student_cases import HEIGHT, WIDTH, make_scenes, rounded_in_torch, small_bundle, small_student

from edge_sdk.bundle import Bundle, rewrite
from edge_sdk.bundle.student_part import student_part
from edge_sdk.cli.bundle_text import describe as describe_bundle
from edge_sdk.cli.models import quantise
from edge_sdk.errors import ConfigError, EngineError
from edge_sdk.export.parser_check import check_decomposed
from edge_sdk.export.quantise.recipe import RECIPES
from edge_sdk.export.quantise.student.frames import FrameLoop, read_clips
from edge_sdk.export.quantise.student.integers import with_integers
from edge_sdk.export.quantise.student.layers import rounded_values, student_layers
from edge_sdk.export.quantise.student.pipeline import _quantised
from edge_sdk.export.quantise.student.ranges import calibrated_ranges
from edge_sdk.export.quantise.student.recipe import StudentRecipe, load_student_recipe
from edge_sdk.hardware import find_target
from edge_sdk.hardware.onnx_work import graph_work
from edge_sdk.hardware.plan import describe as describe_plan
from edge_sdk.hardware.plan import plan
from edge_sdk.perception.recogniser import Recogniser, student_of
from edge_sdk.toolchain.quantising_student import StudentQuantiseReport, describe, quantise_student
from edge_sdk.verify import verify

RECIPE = "student-int8"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "seen", 3, crashes=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("exact") / "bundle", small_student())


@pytest.fixture(scope="module")
def made(
    bundle: Bundle, scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, StudentQuantiseReport]:
    out = tmp_path_factory.mktemp("made") / "bundle"
    held_out = make_scenes(out.parent / "held", 4, crashes=2, first=10, seconds=0.4)
    recipe = written_recipe(out.parent, "max_score_error = 1.0")
    report = quantise_student(bundle.folder, out, recipe, scenes, held_out=held_out, quiet=True)
    return Bundle.open(out), report


def written_recipe(folder: Path, *lines: str) -> str:
    path = folder / "recipe.toml"
    path.write_text("\n".join(['part = "student"', 'name = "mine"', 'methods = ["max", "percentile"]', *lines]))
    return str(path)


def states(bundle: Bundle, seed: int) -> dict[str, np.ndarray]:
    """What the student may be given: inputs of a frame and states as a ReLU leaves them."""
    rng = np.random.default_rng(seed)
    graph, _ = bundle.graph("student")
    found = {}
    for spec in graph.inputs:
        shape = [1, *(int(length) for length in spec.shape[1:])]
        values = rng.uniform(-1, 1, shape) if spec.name == "frames" else rng.uniform(0, 1, shape)
        found[spec.name] = values.astype(np.float32)
    return found


def test_the_graph_computes_what_torch_computes_with_fake_quantisation(
    made: tuple[Bundle, StudentQuantiseReport],
) -> None:
    bundle, _ = made
    path = bundle.graph("student")[1]
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    scales = {
        name.removesuffix(".scale"): float(held[name]) for name in held if held[name].shape == () and ".scale" in name
    }
    model = copy.deepcopy(small_student()).fuse().eval()
    for seed in range(3):
        feeds = states(bundle, seed)
        given = [torch.from_numpy(array) for array in feeds.values()]
        with torch.no_grad():
            exact = model.step(given[0], given[1:])[0].numpy()
            with rounded_in_torch(model, scales):
                wanted, following = model.step(given[0], given[1:])
        found = run_plainly(path, feeds)
        # One step of a value is a hundredth of its range: rounding moves the scores far more than this.
        np.testing.assert_allclose(found["scores"], wanted.numpy(), atol=2e-4)
        assert np.abs(found["scores"] - exact).max() > 2e-3
        np.testing.assert_allclose(found["next_state.0"], following[0].numpy(), atol=2 * scales["cat"])


def test_both_graphs_share_every_weight_and_differ_in_zero_points(made: tuple[Bundle, StudentQuantiseReport]) -> None:
    bundle, report = made
    signed, unsigned = (onnx.load(bundle.graph(name)[1]) for name in ("student", "student.cpu"))
    assert [node.SerializeToString() for node in signed.graph.node] == [
        n.SerializeToString() for n in unsigned.graph.node
    ]
    pairs = list(zip(signed.graph.initializer, unsigned.graph.initializer, strict=True))
    other = {a.name for a, b in pairs if a.SerializeToString() != b.SerializeToString()}
    assert other == {
        name
        for name in (a.name for a, _ in pairs)
        if name.endswith(".zero") and "conv" not in name and "frames" not in name
    }
    whole = {tensor.data_type for tensor in signed.graph.initializer if tensor.name.endswith((".zero", "conv.weight"))}
    assert whole == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}  # the memory's own weights are float32
    assert {node.domain for node in signed.graph.node} == {""}
    assert report.bytes[1] == sum(
        (bundle.folder / f).stat().st_size for f in ("student.onnx", "student.cpu.onnx", "student.weights")
    )


def test_tensorrt_10_3_reads_one_and_onnx_runtime_computes_the_other_in_whole_numbers(
    made: tuple[Bundle, StudentQuantiseReport], tmp_path: Path
) -> None:
    bundle, report = made
    check_decomposed(onnx.load(bundle.graph("student")[1]))
    with pytest.raises(EngineError, match="UINT8"):
        check_decomposed(onnx.load(bundle.graph("student.cpu")[1]))
    _, joined = optimised(bundle.graph("student.cpu")[1], tmp_path / "joined.onnx")
    assert sum(node.op_type == "QLinearConv" for node in joined.graph.node) == report.layers == 14


def test_scores_of_both_graphs_are_close_to_float32(bundle: Bundle, made: tuple[Bundle, StudentQuantiseReport]) -> None:
    quantised, report = made
    (clip,) = read_clips([next(quantised.folder.parent.glob("held/*.mp4"))], student_of(bundle), lambda *_: None)
    found = []
    for each in (bundle, quantised):
        recogniser = Recogniser(each)
        found.append(np.stack([recogniser.score(picture) for picture in clip.luma]))
        recogniser.close()
    assert 0 < np.abs(found[0] - found[1]).mean() < 0.05
    assert report.held_out is not None
    assert (report.held_out.clips, report.held_out.crashes) == (4, 2)
    assert "held-out clips" in describe(report)


def test_verify_runs_both_on_onnx_runtime_and_the_device_opens_its_own(
    made: tuple[Bundle, StudentQuantiseReport],
) -> None:
    bundle, _ = made
    report = verify(bundle)
    assert report.ok
    assert {check.graph for check in report.outputs} == {"student", "student.cpu"}
    student = student_of(bundle)
    assert student.graph_on("ort") == "student.cpu"
    assert [student.graph_on("ort", "cuda"), student.graph_on("trt"), student.graph_on("rtx")] == ["student"] * 3
    found = plan(bundle, find_target("agx-orin-64gb"))
    assert found.precision["student"] == "int8"
    assert "precision student int8" in describe_plan(found)
    part = student_part(bundle.folder)
    assert {"student.onnx", "student.cpu.onnx", "student.weights"} <= part.files.keys()


def test_the_proof_is_shown_and_names_the_files_that_were_measured(
    bundle: Bundle, made: tuple[Bundle, StudentQuantiseReport]
) -> None:
    few, report = made
    files = ("student.cpu.onnx", "student.onnx", "student.weights")
    told = msgspec.json.decode(few.path("quantise/student.json").read_bytes())
    assert told["files"] == {file: hashlib.sha256((few.folder / file).read_bytes()).hexdigest() for file in files}
    sides = ((bundle, ("student.onnx",)), (few, files))
    sizes = [sum((each.folder / file).stat().st_size for file in names) for each, names in sides]
    assert told["size_bytes"] == list(report.bytes) == sizes
    shown, verified = "\n".join(describe_bundle(few)), str(verify(few))
    assert report.held_out is not None
    for line in (
        f"student by mine: 14 of 14 layers of 8 bits, ranges by {report.method}",
        f"student {sizes[0] / 1e6:.2f} MB -> {sizes[1] / 1e6:.2f} MB",
        "student on 4 held-out clips, 2 of them crashes:",
        f"  clip_ap        {report.held_out.before.clip_ap:.4f} -> {report.held_out.after.clip_ap:.4f}",
    ):
        assert line in shown
        assert line in verified
    assert "proof" not in "\n".join(describe_bundle(bundle))


def test_frames_are_predicted_as_plan_has_them(bundle: Bundle, made: tuple[Bundle, StudentQuantiseReport]) -> None:
    few = made[0]
    report = verify(few)
    (found,) = (each for each in report.predicted_student if each.target == "agx-orin-64gb")
    times = []
    for each in (bundle, few):
        stages = plan(each, find_target("agx-orin-64gb")).stages
        times.append(next(1e3 * stage.each_s for stage in stages if stage.name == "student" and stage.each_s))
    assert (found.before_ms, found.after_ms) == (pytest.approx(times[0], rel=1e-3), pytest.approx(times[1]))
    assert f"{found.target:16}{found.before_ms:>10.2f}{found.after_ms:>10.2f}" in str(report)
    assert verify(bundle).predicted_student == ()


def test_verify_fails_a_proof_of_another_student_and_the_proof_goes_with_its_own(
    made: tuple[Bundle, StudentQuantiseReport], tmp_path: Path
) -> None:
    few, _ = made
    told = msgspec.json.decode(few.path("quantise/student.json").read_bytes())
    told["files"]["student.weights"] = "0" * 64
    data = msgspec.json.encode(told)
    other = rewrite(few, tmp_path / "other", extra_files={"quantise/student.json": data})
    report = verify(other)
    assert not report.ok
    assert "student.json: was measured on student.weights of SHA-256 000000000000" in str(report)
    assert student_part(few.folder).files["quantise/student.json"] == few.path("quantise/student.json").read_bytes()


def test_layers_that_stay_float_are_told_with_their_reason_and_clips_that_were_not_given(
    bundle: Bundle, scenes: Path, tmp_path: Path
) -> None:
    lines = ["max_score_error = 1.0", 'float_layers = ["node_conv2d"]']
    quantise_student(bundle.folder, tmp_path / "out", written_recipe(tmp_path, *lines), scenes, quiet=True)
    shown = "\n".join(describe_bundle(Bundle.open(tmp_path / "out")))
    assert "13 of 14 layers of 8 bits" in shown
    assert "student layer node_conv2d stays float32: asked for by the recipe" in shown
    assert "student not scored: quantise with --held-out" in shown


def test_work_is_counted_through_weights_of_few_bits(
    bundle: Bundle, made: tuple[Bundle, StudentQuantiseReport]
) -> None:
    exact, few = (graph_work(each.graph("student")[1]).flops for each in (bundle, made[0]))
    assert few == exact > 0


def test_layers_go_back_to_float32_until_the_scores_are_close_enough(
    bundle: Bundle, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "strict"
    report = quantise_student(
        bundle.folder, out, written_recipe(tmp_path, "max_score_error = 1e-9"), scenes, quiet=True
    )
    assert report.layers == 0
    assert report.score_error == 0
    paths = [each.graph("student")[1] for each in (bundle, Bundle.open(out))]
    feeds = states(bundle, 0)
    a, b = (run_plainly(path, feeds)["scores"] for path in paths)
    np.testing.assert_array_equal(a, b)
    named = tmp_path / "named"
    lines = ["max_score_error = 1.0", 'float_layers = ["node_conv2d", "node_conv2d_14"]']
    report = quantise_student(bundle.folder, named, written_recipe(tmp_path, *lines), scenes, quiet=True)
    assert report.float_layers == ("node_conv2d", "node_conv2d_14")
    assert report.layers == 12
    told = msgspec.json.decode((named / "quantise/student.json").read_bytes())
    assert [each["why"] for each in told["layers"] if each["float32"]] == ["asked for by the recipe"] * 2
    assert all(each["score_error"] > 0 for each in told["layers"])


def test_methods_and_layers_are_judged_by_the_worse_graph(bundle: Bundle, scenes: Path) -> None:
    """Ranges are too narrow, so that a signed number cuts off more than an unsigned one of the same scale."""
    graph, path = bundle.graph("student")
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    clips = read_clips(sorted(scenes.glob("*.mp4"))[:1], student_of(bundle), lambda *_: None)
    recipe = StudentRecipe(part="student", methods=("percentile",), percentile=99.0, max_score_error=1.0)
    made = _quantised(model, graph, clips, recipe, quiet=True)
    evidence = made.evidence
    assert evidence.signed_error > evidence.cpu_error
    assert evidence.method_errors == {"percentile": pytest.approx(evidence.signed_error)}
    exact = FrameLoop(model, graph).scores(clips)
    layer, told = made.layers[-1], evidence.layers[-1]
    assert layer.name == told.name
    moved = [
        np.abs(FrameLoop(with_integers(model, [layer], made.ranges, unsigned=each), graph).scores(clips) - exact).mean()
        for each in (False, True)
    ]
    assert told.score_error == pytest.approx(max(moved))
    assert moved[0] > moved[1]


def test_a_layer_that_is_not_there_is_named(bundle: Bundle, scenes: Path, tmp_path: Path) -> None:
    recipe = written_recipe(tmp_path, 'float_layers = ["node_conv2d", "node_conv3d"]')
    with pytest.raises(ConfigError, match="this student has no layer node_conv3d; it has node_conv2d, "):
        quantise_student(bundle.folder, tmp_path / "out", recipe, scenes, quiet=True)
    assert not (tmp_path / "out").exists()


def test_the_same_clips_give_the_same_bytes(bundle: Bundle, scenes: Path, tmp_path: Path) -> None:
    recipe, found = written_recipe(tmp_path, "max_score_error = 1.0"), []
    for name in ("a", "b"):
        quantise_student(bundle.folder, tmp_path / name, recipe, scenes, quiet=True)
        found.append(
            {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        )
    assert found[0] == found[1]


def test_a_quantised_student_and_one_without_layers_are_refused(
    made: tuple[Bundle, StudentQuantiseReport], scenes: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="expected a student in float32, found a quantised one"):
        quantise_student(made[0].folder, tmp_path / "x", RECIPE, scenes, quiet=True)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    with pytest.raises(ConfigError, match="nothing to quantise"):
        student_layers(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])))


def test_values_that_are_not_finite_are_refused(bundle: Bundle, scenes: Path) -> None:
    graph, path = bundle.graph("student")
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("picture.0.conv.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e38), weight.name))
    clips = read_clips(sorted(scenes.glob("*.mp4"))[:1], student_of(bundle), lambda *_: None)
    with pytest.raises(ConfigError, match="NaN or infinity"):
        calibrated_ranges(model, graph, clips, rounded_values(student_layers(model)), load_student_recipe(RECIPE))


def test_clips_are_refused_in_one_sentence(bundle: Bundle, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    one = make_scenes(tmp_path / "one", 1, crashes=1)
    calm = make_scenes(tmp_path / "calm", 2, crashes=0, seconds=0.2)
    for folder, words in (
        (tmp_path / "none", "found none"),
        (one, "expected at least 2 clips, found 1"),
        (calm, "at least 1 crash, found none among 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            quantise_student(bundle.folder, tmp_path / "out", RECIPE, folder, quiet=True)
    with pytest.raises(ConfigError, match="3 of its clips were used for calibration"):
        quantise_student(bundle.folder, tmp_path / "out", RECIPE, scenes, held_out=scenes, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("count", "crashes"), [(1, 1), (2, 0)], ids=["one-clip", "no-crash"])
def test_held_out_scenes_need_not_be_such_as_calibrate(
    bundle: Bundle, scenes: Path, tmp_path: Path, count: int, crashes: int
) -> None:
    held_out = make_scenes(tmp_path / "held", count, crashes=crashes, first=20, seconds=0.3)
    recipe = written_recipe(tmp_path, "max_score_error = 1.0")
    report = quantise_student(bundle.folder, tmp_path / "out", recipe, scenes, held_out=held_out, quiet=True)
    assert report.held_out is not None
    assert (report.held_out.clips, report.held_out.crashes) == (count, crashes)
    assert report.held_out.after.clip_ap in (None, 1.0)


def test_the_command_says_what_a_bundle_needs(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="give a folder with --clips"):
        quantise(bundle.folder, out, RECIPE)
    with pytest.raises(ConfigError, match=r"no recipe at .*: student-int8$"):
        quantise(bundle.folder, out, "w4", clips=tmp_path)
    with pytest.raises(ConfigError, match="is for a checkpoint's weights"):
        quantise(bundle.folder, out, str(RECIPES / "w4.toml"), clips=tmp_path)
    with pytest.raises(ConfigError, match="is a bundle, whose student is quantised"):
        quantise(bundle.folder, out, RECIPE, clips=tmp_path, statistics=tmp_path)


def test_clips_of_a_checkpoint_go_to_calibrate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edge-sdk calibrate"):
        quantise(tmp_path, tmp_path / "out", "w4", clips=tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [("methods = []", "at least one of"), ("percentile = 40.0", "above 50"), ("max_score_error = 0.0", "above 0")],
)
def test_a_recipe_that_cannot_be_followed_is_refused(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f'part = "student"\n{line}\n')
    with pytest.raises(ConfigError, match=said):
        load_student_recipe(path)


def test_pictures_are_those_of_capture(scenes: Path, bundle: Bundle) -> None:
    (clip,) = read_clips([sorted(scenes.glob("*.mp4"))[0]], student_of(bundle), lambda *_: None)
    assert clip.luma.shape[1:] == (HEIGHT, WIDTH)
    assert clip.planes().shape[:2] == (len(clip.luma), 3)
