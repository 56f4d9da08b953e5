"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from toy_bundle import folder as folder

ROOT = Path(__file__).parents[1]
# What a workstation does and no device: bundles are made, students trained, scenes rendered. It takes torch and mujoco.
WORKSTATION = (
    "tests/calibration",
    "tests/export",
)
# What is held against the machine itself: its speed, its memory, a camera that it encodes in real time. On an emulated
# machine that says nothing. Single tests are marked where they stand.
NATIVE = (
    "benchmarks",
    "tests/capture/test_live_faults.py",
    "tests/hardware/test_host.py",
)
# Folders and files whose tests assert times or speak to cameras that keep real time.
ALONE = (
    "benchmarks",
    "tests/benchmarks",
    "tests/capture",
    "tests/cli/test_closed_outputs.py",
    "tests/cli/test_saving.py",
    "tests/cli/test_watch.py",
    "tests/explaining",
    "tests/hardware/test_host.py",
    "tests/test_early_saving.py",
    "tests/test_rtsp_server.py",
    "tests/test_saving_again.py",
    "tests/test_unit.py",
    "tests/test_unit_by_hand.py",
    "tests/test_unit_repeats.py",
    "tests/test_unit_saving.py",
    "tests/test_unit_sources.py",
)
# Files in the folders of `ALONE` that do neither, and so share the cores with others.
BESIDE = (
    "tests/benchmarks/test_accuracy.py",
    "tests/benchmarks/test_bench_compare.py",
    "tests/benchmarks/test_live_knee.py",
    "tests/benchmarks/test_live_reconnects.py",
    "tests/benchmarks/test_live_stamp.py",
    "tests/benchmarks/test_make_clip.py",
    "tests/benchmarks/test_plans.py",
    "tests/benchmarks/test_real_clips.py",
    "tests/capture/test_capture_uri.py",
    "tests/capture/test_formats.py",
    "tests/capture/test_health.py",
    "tests/capture/test_health_stillness.py",
    "tests/capture/test_installation.py",
    "tests/capture/test_live_pipelines.py",
    "tests/capture/test_live_uri.py",
    "tests/capture/test_pace.py",
    "tests/capture/test_pipelines.py",
    "tests/capture/test_pixels.py",
    "tests/capture/test_redaction.py",
    "tests/capture/test_ring.py",
    "tests/capture/test_sameness.py",
    "tests/capture/test_slipped_addresses.py",
    "tests/explaining/test_both.py",
    "tests/explaining/test_contradiction.py",
    "tests/explaining/test_interpreter.py",
    "tests/explaining/test_outbox.py",
    "tests/explaining/test_short_files.py",
    "tests/explaining/test_swapped.py",
    "tests/explaining/test_view.py",
    "tests/explaining/test_working_folder.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `ALONE`, `WORKSTATION` and `NATIVE`, before markers select."""
    for mark, names, others in (("alone", ALONE, BESIDE), ("workstation", WORKSTATION, ()), ("native", NATIVE, ())):
        places, left_out = ([ROOT / name for name in some] for some in (names, others))
        for item in items:
            if item.path not in left_out and any(item.path.is_relative_to(place) for place in places):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Leave what was imported to itself: to look through all of it takes the collector up to a second, in mid-test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and configurations beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder.name}: these tests need the data folder beside the checkout")
    return folder
