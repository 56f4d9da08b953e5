"""Plans against sums by hand: memory, times, verdicts, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.errors import ConfigError
from edge_sdk.hardware import TARGETS, Target, find_target
from edge_sdk.hardware.numbers import MODELS, ModelNumbers, StudentNumbers
from edge_sdk.hardware.plan import describe, model_numbers, plan

STUDENT = ModelNumbers(
    name="student",
    student=StudentNumbers(
        flops=4e8, weight_bytes=2_000_000, state_bytes=500_000, activation_bytes=1_500_000, rate_hz=10.0
    ),
)


def language(name: str, **changes: object) -> ModelNumbers:
    model = MODELS[name]
    return msgspec.structs.replace(model, reasoning=msgspec.structs.replace(model.reasoning, **changes))


def test_a_student_by_hand() -> None:
    found = plan(STUDENT, find_target("orin-nano-8gb"))
    # 450 MB of process, 2 MB of weights, a state of 0.5 MB twice; one operator holds 1.5 MB for each of 4 streams
    assert (found.rest_mb, found.peak_mb, found.peak_stage) == (459.0, 459.0, "none")
    assert "peak                   459.0  no stage needs more" in describe(found)
    # 8 GiB, 7 % unseen, 1 GB for the rest of the system
    assert found.available_mb == pytest.approx(8 * 1073.741824 * 0.93 - 1000)
    (only,) = found.stages
    assert only.compute_s == pytest.approx(4e8 / (2.09e12 * 0.37))
    assert only.bandwidth_s == pytest.approx(4.5e6 / (102e9 * 0.5))
    assert (found.runs, found.builds, found.reasons, found.clip_s) == (True, True, (), None)


def test_streams_share_the_weights() -> None:
    assert STUDENT.student is not None
    four = msgspec.structs.replace(STUDENT, student=msgspec.structs.replace(STUDENT.student, streams=4))
    one, more = (plan(each, find_target("agx-orin-64gb")) for each in (STUDENT, four))
    assert more.rest_mb - one.rest_mb == pytest.approx(3 * 2 * 0.5)
    assert more.stages[0].work.flops == 4 * one.stages[0].work.flops


def test_an_engine_for_more_streams_holds_more_scratch() -> None:
    assert STUDENT.student is not None
    scratch = []
    for streams in (1, 4, 6):
        numbers = msgspec.structs.replace(STUDENT, student=msgspec.structs.replace(STUDENT.student, streams=streams))
        parts = {part.name: part.mb for part in plan(numbers, find_target("agx-orin-64gb")).rest}
        scratch.append(parts["student scratch"])
    assert scratch == [6.0, 6.0, 9.0]


@pytest.mark.parametrize(("name", "process_mb"), [("agx-orin-64gb", 450), ("arm64-cpu", 72)])
def test_the_video_llm_has_a_process_beside_the_students(name: str, process_mb: float) -> None:
    alone = language("videollama3-2b")
    both = msgspec.structs.replace(alone, student=STUDENT.student)
    for numbers, names in ((STUDENT, 1), (alone, 1), (both, 2)):
        found = plan(numbers, find_target(name))
        assert [part.mb for part in found.rest if "process" in part.name] == [process_mb] * names
    assert [part.name for part in found.rest][:2] == ["student's process", "reasoner's process"]


def test_only_onnx_runtime_takes_the_memory_of_one_stage_at_a_time() -> None:
    both = msgspec.structs.replace(language("videollama3-2b"), student=STUDENT.student)
    board, cpu = (plan(both, find_target(name)) for name in ("agx-orin-64gb", "arm64-cpu"))
    parts = [{part.name for part in found.rest if part.name.endswith("scratch")} for found in (board, cpu)]
    assert parts == [{f"{each} scratch" for each in ("student", "vision", "projector", "decoder")}, set()]
    assert (board.peak_mb, board.peak_stage) == (board.rest_mb, "none")
    assert (cpu.peak_mb > cpu.rest_mb, cpu.peak_stage) == (True, "prefill")


def test_merged_decoders_and_projectors_hold_scratch_each() -> None:
    one, two, switchable = (
        {part.name: part.mb for part in plan(language("videollama3-7b", **changes), find_target("h200")).rest}
        for changes in ({}, {"adapters": 2}, {"adapters": 2, "switchable": True})
    )
    assert two["decoder scratch"] == 2 * one["decoder scratch"] == 2 * switchable["decoder scratch"]
    assert two["projector scratch"] == switchable["projector scratch"] == 2 * one["projector scratch"]
    assert two["vision scratch"] == one["vision scratch"]


def test_a_student_that_is_too_slow() -> None:
    assert STUDENT.student is not None
    heavy = msgspec.structs.replace(STUDENT, student=msgspec.structs.replace(STUDENT.student, flops=4e11))
    (reason,) = plan(heavy, find_target("orin-nano-8gb")).reasons
    assert reason == "the student takes 517 ms a frame, and 10 frames come a second"


def test_the_7b_on_an_agx_orin_by_hand() -> None:
    found = plan(language("videollama3-7b", precision="w4a16"), find_target("agx-orin-64gb"))
    parts = {part.name: part.mb for part in found.rest}
    assert parts == pytest.approx(
        {
            "process": 450,
            "vision": 823.5,
            "projector": 33.9,
            "decoder": 3364.6,
            "head": 1090.0,
            "KV cache": 616.6,
            # Two bytes a value. 8 frames of 364 patches, each 6 rows of 1,152 and 2 of 4,304.
            "vision scratch": 8 * 364 * (6 * 1152 + 2 * 4304) * 2 / 1e6,
            # 8 frames of 91 tokens, each 1,152 before the projector, and 3,584 three times.
            "projector scratch": 8 * 91 * (1152 + 3 * 3584) * 2 / 1e6,
            # 128 tokens, each 6 rows of 3,584 and 3 of 18,944; the mask as given and as added; 8 rows of logits.
            "decoder scratch": (128 * (6 * 3584 + 3 * 18_944) * 2 + 128 * 10_752 * 3 + 8 * 152_064 * 4) / 1e6,
        },
        abs=0.1,
    )
    assert found.rest_mb == pytest.approx(sum(parts.values()))
    assert found.mapped_mb == pytest.approx(1090.0, abs=0.1)
    assert found.build_mb == pytest.approx(3.5 * (6525.288448 + 544.997376))
    stages = {each.name: each for each in found.stages}
    # 316.24 GFLOP a frame, at half of 42.6 TFLOPS
    assert stages["vision"].each_s == pytest.approx(0.31624 / (42.6 * 0.5), rel=1e-4)
    assert (stages["vision"].count, stages["prefill"].count, stages["decode"].count) == (96, 74, 35)
    # 128 tokens: linears, and attention of 28 layers of 3,584 over all 10,752 slots
    chunk = 2 * 6525.288448e6 * 128 + 4 * 28 * 3584 * 128 * 10_752
    assert stages["prefill"].each_s == pytest.approx(chunk / (42.6e12 * 0.5))
    assert stages["decode"].bound == "bandwidth"
    # 5.07 GB of weights and cache and little else, at three quarters of 204.8 GB/s
    assert stages["decode"].each_s == pytest.approx(5.07e9 / (204.8e9 * 0.75), rel=0.01)
    assert found.clip_s == pytest.approx(sum((each.each_s or 0) * each.count for each in found.stages))
    assert found.runs


@pytest.mark.parametrize("target", [t for t in TARGETS if t.kind != "gpu" and t.memory_gib], ids=lambda t: t.name)
def test_a_longer_call_would_prefill_no_faster(target: Target) -> None:
    def seconds(**changes: int) -> float:
        found = plan(language("videollama3-7b", precision="w4a16", **changes), target).stages
        return sum((each.each_s or 0) * each.count for each in found if each.name in ("prefill", "questions"))

    assert 0 < seconds() < seconds(chunk=512)


def test_two_adapters_prefill_twice_and_see_once() -> None:
    one, two = (plan(language("videollama3-7b", adapters=n), find_target("h200")) for n in (1, 2))
    counts = [{each.name: each.count for each in found.stages} for found in (one, two)]
    assert counts[0] == {"vision": 96, "projector": 96, "prefill": 74, "questions": 7, "decode": 35}
    assert counts[1] == {"vision": 96, "projector": 192, "prefill": 148, "questions": 8, "decode": 45}


def test_a_switchable_adapter_is_read_at_every_step() -> None:
    merged, switchable = (
        plan(language("videollama3-7b", switchable=each), find_target("agx-orin-64gb")) for each in (False, True)
    )
    more = switchable.stages[-1].work.bytes - merged.stages[-1].work.bytes
    assert more / 1e6 == pytest.approx(323, rel=0.001)


@pytest.mark.parametrize(("name", "times"), [("agx-orin-64gb", 2), ("rtx-4090", 1), ("x86-cpu", 1)])
def test_an_adapters_matrices_lie_twice_where_a_device_shares_the_hosts_memory(name: str, times: int) -> None:
    merged, switchable = (
        plan(language("videollama3-7b", switchable=each), find_target(name)) for each in (False, True)
    )
    size = 323 if name != "x86-cpu" else 646  # in float32
    assert switchable.rest_mb - merged.rest_mb == pytest.approx(times * size, rel=0.001)


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    found = plan(language("videollama3-7b"), find_target("orin-nx-16gb"))
    assert (found.runs, found.builds) == (False, False)
    running, building = found.reasons
    assert running == "running needs 16,201 MB, and 14,977 MB are available"
    # Three times the bytes of 7,070 million weights in fp16.
    assert building.startswith("building engines needs about 42,422 MB, and 14,977 MB are available; add 27,444 MB of")
    assert found.advice == ("with w8a16 it would need 9,676 MB, and run",)


def test_a_model_that_no_precision_makes_fit() -> None:
    found = plan(language("videollama3-7b", slots=60_000), find_target("orin-nano-8gb"))
    assert found.advice == ("no precision makes it fit; take a smaller model, fewer slots, or a larger board",)


def test_unfused_attention_needs_room_for_its_scores() -> None:
    orin, model = find_target("agx-orin-64gb"), language("videollama3-7b")
    fused, written = (plan(model, orin, tensorrt=version) for version in ("10.16.2", "10.3.0"))
    assert (fused.dialect, written.dialect) == ("native", "decomposed")
    # Of two bytes, before and after the softmax: 28 heads of 128 by 10,752 scores, and 16 of 364 by 364 in 8 frames.
    scores = 28 * 128 * 10_752 + 8 * 16 * 364**2
    assert written.peak_mb - fused.peak_mb == pytest.approx(2 * scores * 2 / 1e6)


@pytest.mark.parametrize(("precision", "bytes_a_weight"), [("fp32", 12), ("fp16", 6), ("w8a16", 3.5), ("w4a16", 3.5)])
def test_building_takes_copies_of_wide_weights_and_more_than_that_of_few_bits(
    precision: str, bytes_a_weight: float
) -> None:
    merged = language("videollama3-7b", precision=precision, adapters=2)  # built one after the other
    found = plan(merged, find_target("agx-orin-64gb"))
    assert found.build_mb == pytest.approx(bytes_a_weight * (6525.288448 + 544.997376))
    on_a_card = min(bytes_a_weight, 3.5)
    assert plan(merged, find_target("rtx-4090")).build_mb == pytest.approx(on_a_card * (6525.288448 + 544.997376))
    assert any(each.startswith("build copies of the weights = 3 (assumed, a board") for each in found.unverified)


@pytest.mark.parametrize(
    ("changes", "name", "told"),
    [
        ({"precision": "w8a16"}, "agx-orin-64gb", True),
        ({"precision": "w4a16", "head_bits": 8}, "agx-orin-64gb", True),
        ({"vision_precision": "w8a16"}, "rtx-4090", True),
        ({"precision": "w4a16"}, "agx-orin-64gb", False),
        ({"precision": "w8a8"}, "agx-orin-64gb", False),
        ({"precision": "w8a16"}, "arm64-cpu", False),
    ],
)
def test_the_size_of_an_engine_with_int8_weights_alone_is_told_as_unverified(
    changes: dict[str, object], name: str, told: bool
) -> None:
    found = plan(language("videollama3-7b", **changes), find_target(name))
    assert any("INT8 weights and float inputs" in each for each in found.unverified) == told


@pytest.mark.parametrize(
    ("name", "runtime", "tensorrt", "dialect"),
    [
        ("orin-nano-8gb", "trt", "10.16.2", "native"),
        ("thor-t5000", "trt", "10.16.2", "native"),
        ("rtx-4090", "trt", None, "native"),
        ("arm64-cpu", "ort", None, "native"),
    ],
)
def test_runtime_and_dialect(name: str, runtime: str, tensorrt: str | None, dialect: str) -> None:
    found = plan(STUDENT, find_target(name))
    assert (found.runtime, found.tensorrt, found.dialect) == (runtime, tensorrt, dialect)
    assert (found.build_mb is None) == (runtime == "ort")


def test_a_tensorrt_that_is_too_old() -> None:
    with pytest.raises(ConfigError, match=r"10\.3 or newer"):
        plan(STUDENT, find_target("orin-nano-8gb"), tensorrt="8.6.2")


@pytest.mark.parametrize(("precision", "name"), [("nvfp4", "agx-orin-64gb"), ("fp8", "rtx-3090"), ("fp8", "arm64-cpu")])
def test_a_precision_that_the_target_lacks(precision: str, name: str) -> None:
    (reason,) = [
        r for r in plan(language("videollama3-2b", precision=precision), find_target(name)).reasons if "sm" in r
    ]
    assert reason.startswith(f"decoder: {precision} needs a GPU of sm_")


def test_4_bits_need_a_compiler_that_takes_them_on_a_gpu_alone() -> None:
    old = Target(name="old", title="a card of 2018", kind="gpu", sm=75)
    small, wide = (plan(language("videollama3-2b", precision=each), old).reasons for each in ("w4a16", "w8a16"))
    assert "decoder: w4a16 needs a GPU of sm_80 or newer, old has sm_75" in small
    assert not [reason for reason in wide if "sm_" in reason]
    on_cpu = plan(language("videollama3-2b", precision="w4a16"), find_target("arm64-cpu"))
    assert not [reason for reason in on_cpu.reasons if "sm_" in reason]


@pytest.mark.parametrize(("name", "fits"), [("agx-orin-64gb", False), ("thor-t5000", True)])
def test_single_matrices_of_fp8_are_told_too(name: str, fits: bool) -> None:
    found = plan(language("videollama3-2b", precision="w4a16", fp8=True), find_target(name))
    lacking = f"some of its matrices: fp8 needs a GPU of sm_89 or newer, {name} has sm_87"
    assert (lacking in found.reasons) != fits


def test_fewer_threads_are_slower() -> None:
    one, all_six = (plan(STUDENT, find_target("arm64-cpu"), threads=n).stages[0] for n in (1, None))
    assert one.compute_s == pytest.approx(6 * (all_six.compute_s or 0))


def test_half_precision_is_widened_where_only_a_cpu_runs_it() -> None:
    halves, singles = language("videollama3-2b"), language("videollama3-2b", precision="fp32", vision_precision="fp32")
    found, single = (plan(model, find_target("x86-cpu")) for model in (halves, singles))
    parts, expected = ({part.name: part.mb for part in each.rest} for each in (found, single))
    assert found.precision == {"vision": "fp32", "decoder": "fp32"}
    assert {name: parts[name] for name in ("vision", "projector", "decoder", "head")} == {
        name: expected[name] for name in ("vision", "projector", "decoder", "head")
    }
    # the cache and the table stay as they were exported
    assert parts["KV cache"] == expected["KV cache"] / 2
    assert found.mapped_mb == single.mapped_mb / 2
    assert plan(halves, find_target("agx-orin-64gb")).precision["decoder"] == "fp16"
    assert plan(language("videollama3-2b", precision="w4a16"), find_target("x86-cpu")).precision["decoder"] == "w4a16"


def test_nothing_is_said_of_a_machine_of_which_nothing_is_known() -> None:
    found = plan(STUDENT, find_target("cpu"))
    assert (found.runs, found.available_mb, found.stages[0].each_s) == (None, None, None)
    assert "no times and no verdict" in describe(found)


def test_the_demo_bundle_is_planned_from_its_own_files() -> None:
    bundle = open_bundle()
    student = model_numbers(bundle).student
    assert student is not None
    assert student.weight_bytes == bundle.manifest.files["student.onnx"].size_bytes
    # states of 144 and 288 channels on a grid of 12 by 20, and of 96 features for 30 frames, fp32
    assert student.state_bytes == 4 * (144 * 240 + 288 * 240 + 96 * 30)
    assert student.rate_hz == 10.0
    assert plan(bundle, find_target("orin-nano-8gb")).runs


def test_weights_beside_a_graph_count(folder: Path) -> None:
    student = model_numbers(Bundle.open(folder)).student
    assert student is not None
    sizes = [(folder / "graphs" / name).stat().st_size for name in ("student.onnx", "student.weights")]
    assert student.weight_bytes == sum(sizes)


def test_a_bundle_without_models(folder: Path) -> None:
    empty = msgspec.structs.replace(Bundle.open(folder).manifest, student=None)
    assert model_numbers(Bundle(folder=folder, manifest=empty, sha256="")).student is None


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_plan_is_told_in_words_and_in_json(target: Target) -> None:
    found = plan(language("videollama3-2b", precision="w4a16"), target)
    text = describe(found)
    assert text.startswith(f"videollama3-2b on {target.name}: ")
    assert all(part.name in text for part in found.rest)
    assert all(f"no: {reason}" in text for reason in found.reasons)
    assert all(len(line) < 300 for line in text.splitlines())
    read = msgspec.json.decode(msgspec.json.encode(found), type=type(found))
    assert read == found
