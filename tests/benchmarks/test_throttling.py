"""What a run says of clocks, heat and limits, on boards that folders stand for."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import msgspec
import pytest

from edge_sdk.benchmarks import conditions
from edge_sdk.benchmarks.conditions import Watch, validity
from edge_sdk.benchmarks.report import MachineState, Quota
from edge_sdk.benchmarks.throttling import Seen, throttled
from edge_sdk.hardware import observe
from edge_sdk.hardware.cpu_quota import cpu_quota
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.hardware.nvml import CardClock

GPU = "sys/class/devfreq/17000000.gpu"
ORIN = CudaDevice(name="Orin", sm=87, multiprocessors=8, driver="12.6", memory_mb=8000.0, integrated=True)


class Board:
    """A board of two cores, limited to 2,200 MHz; its GPU is limited to 1,000 MHz."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put(f"{GPU}/min_freq", 300e6)
        self.limit(2200)
        self.clocks(2200, 2200)

    def put(self, path: str, value: float | str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{value if isinstance(value, str) else int(value)}\n")

    def clocks(self, *cores_mhz: float, gpu_mhz: float = 1000.0, zone_c: float = 50.0) -> None:
        for core, mhz in enumerate(cores_mhz):
            self.put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", mhz * 1e3)
        self.put(f"{GPU}/cur_freq", gpu_mhz * 1e6)
        self.put("sys/class/thermal/thermal_zone0/temp", zone_c * 1e3)

    def limit(self, cpu_mhz: float, gpu_mhz: float = 1000.0) -> None:
        for core in (0, 1):
            self.put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq", 730e3)
            self.put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_max_freq", cpu_mhz * 1e3)
        self.put(f"{GPU}/max_freq", gpu_mhz * 1e6)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(conditions, "observe", partial(observe, tmp_path))
    monkeypatch.setattr(conditions, "cpu_quota", partial(cpu_quota, tmp_path))
    monkeypatch.setattr(conditions, "find_cuda_device", lambda: ORIN)
    monkeypatch.setattr(conditions, "INTERVAL_S", 0.0)
    return Board(tmp_path)


def watched(board: Board, measured: list[tuple[float, float]], *, gpu: bool = False, gpu_mhz: float = 1000.0) -> Watch:
    """A watch on an idle board that then ran with these clocks of its cores."""
    board.clocks(730, 730, gpu_mhz=300, zone_c=40)
    watch = Watch(gpu=gpu)
    watch.machine = msgspec.structs.replace(watch.machine, arch="aarch64")
    for cores in measured:
        board.clocks(*cores, gpu_mhz=gpu_mhz, zone_c=70)
        watch.look()
    board.clocks(730, 730, gpu_mhz=300, zone_c=60)
    return watch


def test_a_fall_below_the_limit_is_told_though_the_first_reading_was_lower(board: Board) -> None:
    state = watched(board, [(2200, 730), (1100, 730), (1100, 730)]).state({})
    assert state.throttled == ("CPU clock was down to 1100 of 2200 MHz",)
    assert (state.cpu_fastest_mhz and state.cpu_fastest_mhz.min, state.cpu_mhz.min) == (1100, 730)


def test_an_idle_core_is_not_throttling(board: Board) -> None:
    assert watched(board, [(2200, 2200), (2200, 730), (730, 2190)]).state({}).throttled == ()


def test_a_limit_that_heat_lowered_is_not_the_limit(board: Board) -> None:
    """As on a board that became hot in the warm-up: the kernel shows the lower limit for the whole measured time."""
    watch = watched(board, [])
    board.limit(1100)
    board.clocks(1100, 1100)
    watch.look()
    assert watch.state({}).throttled == ("CPU clock was down to 1100 of 2200 MHz",)


def test_only_readings_within_the_measured_time_count(board: Board) -> None:
    """The warm-up begins with idle clocks, and after the run the governor lowers them again."""
    watch = watched(board, [(730, 730)])
    begin_ns = time.perf_counter_ns()
    board.clocks(2200, 2200, zone_c=65)
    watch.look()
    end_ns = time.perf_counter_ns()
    board.clocks(730, 730, zone_c=99)
    watch.look()
    board.clocks(730, 730, zone_c=55)
    state = watch.state({}, (begin_ns, end_ns))
    assert state.throttled == ()
    assert state.cpu_mhz.min == 2200
    assert (state.temperature_c.start, state.temperature_c.max, state.temperature_c.end) == (40, 65, 55)


def test_without_a_reading_or_a_limit_nothing_is_claimed(board: Board) -> None:
    now_ns = time.perf_counter_ns()
    assert watched(board, [(730, 730)]).state({}, (now_ns - 2, now_ns - 1)).throttled is None
    for path in board.root.rglob("scaling_max_freq"):
        path.unlink()
    assert watched(board, [(730, 730)]).state({}).throttled is None


@pytest.mark.parametrize(("gpu", "said"), [(True, ("GPU clock was down to 300 of 1000 MHz",)), (False, ())])
def test_the_clock_of_a_gpu_counts_where_it_computes(board: Board, gpu: bool, said: tuple[str, ...]) -> None:
    assert watched(board, [(2200, 2200)], gpu=gpu, gpu_mhz=300).state({}).throttled == said


def test_the_clocks_of_cpus_that_boost_say_nothing(board: Board) -> None:
    slow, counted = observe(board.root), observe(board.root)
    slow = msgspec.structs.replace(slow, cpu_fastest_mhz=1100)
    assert throttled(Seen([slow], slow, [slow], slow), "x86_64", gpu=False) is None
    before, after = (msgspec.structs.replace(counted, cpu_throttles=count) for count in (7, 9))
    assert throttled(Seen([before], before, [slow], before), "x86_64", gpu=False) == ()
    told = throttled(Seen([before, after], before, [slow], after), "x86_64", gpu=False)
    assert told == ("CPU throttled by heat: the kernel's counts rose by 2",)


@pytest.mark.parametrize(
    ("slowed_by", "said"),
    [
        ([(), ()], None),
        ([("heat",), ("heat", "its power limit")], "by heat in 2 of 2 readings, by its power limit in 1 of 2 readings"),
    ],
)
def test_a_graphics_card_says_what_slows_it(
    board: Board, monkeypatch: pytest.MonkeyPatch, slowed_by: list[tuple[str, ...]], said: str | None
) -> None:
    """Its clock of 300 MHz says nothing, because cards boost; it says itself what slows it, here within the run."""
    told = [("idle",), *slowed_by, ("idle",)]
    monkeypatch.setattr(conditions, "card_clock", lambda: CardClock(300.0, told.pop(0)))
    for path in board.root.glob(f"{GPU}/*"):
        path.unlink()
    watch = Watch(gpu=True)
    watch.machine = msgspec.structs.replace(watch.machine, arch="aarch64")
    for _ in slowed_by:
        watch.look()
    state = watch.state({})
    assert state.throttled == ((f"GPU slowed down {said}",) if said else ())
    assert state.gpu_mhz.p50 == 300


def locked(board: Board, *, gpu: bool) -> MachineState:
    for core in (0, 1):
        board.put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq", 2200e3)
    return Watch(gpu=gpu).state({})


def test_locked_clocks_of_the_cpu_alone_are_not_locked_clocks_of_a_run_on_the_gpu(board: Board) -> None:
    assert locked(board, gpu=False).clocks_locked is True
    assert locked(board, gpu=True).clocks_locked is False
    board.put(f"{GPU}/min_freq", 1000e6)
    both = locked(board, gpu=True)
    assert (both.clocks_locked, both.gpu_clocks_locked, both.gpu) == (True, True, "Orin")
    assert both.gpu_driver is not None
    assert "CUDA 12.6" in both.gpu_driver
    for path in board.root.glob(f"{GPU}/*"):
        path.unlink()
    unknown = locked(board, gpu=True)
    assert unknown.clocks_locked is None
    assert "GPU clocks: whether they are locked cannot be read here" in validity(unknown)


def test_a_container_s_cpu_limit_is_told(board: Board) -> None:
    board.put("proc/self/cgroup", "0::/\n")
    board.put("sys/fs/cgroup/cpu.max", "50000 100000\n")
    board.put("sys/fs/cgroup/cpu.stat", "nr_throttled 3\nthrottled_usec 900000\n")
    watch = Watch()
    assert "CPU limit of 0.5 cores: never held back" in validity(watch.state({}))
    board.put("sys/fs/cgroup/cpu.stat", "nr_throttled 8\nthrottled_usec 1150000\n")
    state = watch.state({})
    assert state.cpu_quota == Quota(cores=0.5, held_back=5, held_back_s=0.25)
    assert "CPU limit of 0.5 cores: held back 5 times, 0.25 s over all cores" in validity(state)
