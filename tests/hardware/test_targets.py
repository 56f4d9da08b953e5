"""Targets: found by name, recognised by board and memory, sourced, consistent in themselves."""

from __future__ import annotations

import pytest

from edge_sdk.errors import UnknownNameError
from edge_sdk.hardware import CPU, TARGETS, Machine, Target, find_target, target_of

NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
NX = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
AGX = "NVIDIA Jetson AGX Orin Developer Kit"
THOR = "NVIDIA Jetson AGX Thor Developer Kit"
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
each_gpu = pytest.mark.parametrize("target", [t for t in TARGETS if t.sm], ids=lambda target: target.name)


def machine(board: str | None, memory_kib: int | None) -> Machine:
    memory_mb = None if memory_kib is None else memory_kib * 1024 / 1e6
    return Machine(
        os="Ubuntu",
        kernel="5.15",
        arch="aarch64",
        cores=6,
        cpu_model=None,
        memory_total_mb=memory_mb,
        board=board,
        l4t=None,
        nvidia_driver=None,
    )


@pytest.mark.parametrize(
    ("board", "memory_kib", "name"),
    [
        (NANO, 7_802_672, "orin-nano-8gb"),
        (NX, 16_031_334, "orin-nx-16gb"),
        (AGX, 64_349_184, "agx-orin-64gb"),
        (THOR, 120 * 2**20, "thor-t5000"),
        (NANO, 3_900_000, "cpu"),
        (NX, 7_802_672, "cpu"),
        (NANO, 16_031_334, "cpu"),
        (AGX, 31_000_000, "cpu"),
        (NANO, None, "cpu"),
        ("Maker Box 1", 16_000_000, "cpu"),
        (None, 16_000_000, "cpu"),
    ],
)
def test_a_machine_is_recognised_by_board_and_memory(board: str | None, memory_kib: int | None, name: str) -> None:
    assert target_of(machine(board, memory_kib)) == find_target(name)


def test_an_unknown_target() -> None:
    with pytest.raises(UnknownNameError, match=r"'xavier'.*agx-orin-64gb"):
        find_target("xavier")


def test_names_are_unique_and_the_cpu_claims_nothing() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert CPU in TARGETS
    assert CPU.sm is None
    assert CPU.figures() == {}


def test_every_architecture_that_is_asked_for_is_there() -> None:
    assert {target.sm for target in TARGETS if target.kind == "jetson"} == {87, 110}
    assert {target.sm for target in TARGETS if target.kind == "gpu"} == {86, 89, 90, 120}
    assert {target.kind for target in TARGETS} == {"jetson", "gpu", "cpu"}


@each_target
def test_every_figure_says_where_it_comes_from(target: Target) -> None:
    for name, figure in target.figures().items():
        assert len(figure.source) > 5, name
        assert figure.value > 0, name


@each_gpu
def test_peaks_double_with_each_halving_of_the_element(target: Target) -> None:
    peaks = {name: figure.value for name, figure in target.dense_tops.items()}
    assert peaks["int8"] == pytest.approx(2 * peaks["fp16"], rel=0.01)
    assert ("fp8" in peaks) == (target.sm is not None and target.sm >= 89)
    assert ("fp4" in peaks) == (target.sm is not None and target.sm >= 100)
    if "fp4" in peaks:
        assert peaks["fp4"] == pytest.approx(2 * peaks["fp8"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "tensor_cores", "clock_ghz"), [("orin-nano-8gb", 32, 1.02), ("orin-nx-16gb", 32, 0.918)]
)
def test_peaks_of_orin_follow_from_cores_and_clock(name: str, tensor_cores: int, clock_ghz: float) -> None:
    """One tensor core of Orin makes 512 int8 multiply-adds a clock, one CUDA core one fp32 multiply-add."""
    peaks = find_target(name).dense_tops
    assert peaks["int8"].value == pytest.approx(tensor_cores * clock_ghz * 1e9 * 1024 / 1e12, rel=0.01)
    assert peaks["fp32"].value == pytest.approx(32 * tensor_cores * clock_ghz * 1e9 * 2 / 1e12, rel=0.01)
