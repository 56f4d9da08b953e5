"""NVML's answers, given by a small C library in its place: no test machine needs a graphics card."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_sdk.hardware.nvml import CardClock, card_clock, card_free_mb

SOURCE = r"""
static int card;
int nvmlInit_v2(void) { return INIT; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = CARDS; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &card; return index ? 2 : 0; }
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz)
{
    *mhz = type == 1 ? 1980 : 1;
    return handle == &card ? CLOCK : 2;
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory)
{
    memory->total = 24000000000ull, memory->free = 5000000000ull, memory->used = 19000000000ull;
    return handle == &card ? 0 : 2;
}
#ifdef REASONS
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons)
{
    *reasons = REASONS;
    return handle == &card ? 0 : 2;
}
#endif
"""


def library(folder: Path, **values: int) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make the library with")
    source, built = folder / "nvml.c", folder / "libnvml.so"
    source.write_text(SOURCE)
    told = {"INIT": 0, "CARDS": 1, "CLOCK": 0} | values
    defined = [f"-D{name}={value}" for name, value in told.items()]
    subprocess.run([compiler, "-shared", "-fPIC", *defined, "-o", built, source], check=True)
    return str(built)


@pytest.mark.parametrize(
    ("reasons", "slowed_by"),
    [(0x1, ()), (0x2, ()), (0x24, ("its power limit", "heat")), (0x8 | 0x40, ("its hardware", "heat, in hardware"))],
    ids=["idle", "set by someone", "power and heat", "hardware"],
)
def test_a_card_says_what_slows_it(tmp_path: Path, reasons: int, slowed_by: tuple[str, ...]) -> None:
    assert card_clock(library(tmp_path, REASONS=reasons)) == CardClock(1980.0, slowed_by)


def test_a_card_without_a_clock_still_says_what_slows_it(tmp_path: Path) -> None:
    assert card_clock(library(tmp_path, REASONS=0x20, CLOCK=3)) == CardClock(None, ("heat",))


@pytest.mark.parametrize(
    "values", [{"INIT": 9, "REASONS": 0}, {"CARDS": 2, "REASONS": 0}, {"CARDS": 0, "REASONS": 0}, {}]
)
def test_no_answer_is_none(tmp_path: Path, values: dict[str, int]) -> None:
    """No driver, several cards, no card, and a library without the question."""
    assert card_clock(library(tmp_path, **values)) is None


def test_no_library_is_none() -> None:
    assert card_clock("libnone.so") is None


def test_the_free_memory_of_a_card(tmp_path: Path) -> None:
    assert card_free_mb(library(tmp_path)) == 5000.0
    assert card_free_mb("libnone.so") is None
