"""The state of the machine around and during a run, and whatever in it casts doubt on the numbers.

Nothing is changed: clocks and power modes are only read. An invalid run is kept and labelled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

import edge_sdk
from edge_sdk.benchmarks.report import MachineState, MemoryMb, Quota, Span, Spread
from edge_sdk.benchmarks.throttling import Seen, throttled
from edge_sdk.hardware import Conditions, Machine, identify, jetpack_of, observe, target_of
from edge_sdk.hardware.cpu_quota import CpuQuota, cpu_quota
from edge_sdk.hardware.cuda import find_cuda_device
from edge_sdk.hardware.nvml import CardClock, card_clock

INTERVAL_S = 1.0
# Use of the CPU by other processes is noted if it exceeds this many cores.
BUSY_CORES = 0.1
# Follows a commit from which the files of the checkout differ.
DIRTY = "+dirty"
# /proc/stat counts time in ticks of this length.
TICK_S = 0.01
# Fields of the first line of /proc/stat that are work: user, nice, system, irq, softirq, steal.
WORK_FIELDS = (1, 2, 3, 6, 7, 8)


class Reading(NamedTuple):
    """The machine at one instant of `perf_counter_ns`: its state, and counters whose differences count."""

    at_ns: int
    seen: Conditions
    usage: tuple[float, float, float] | None
    quota: CpuQuota | None
    card: CardClock | None = None

    @property
    def gpu_mhz(self) -> float | None:
        """The clock of the Jetson's GPU or of the graphics card."""
        return self.card.mhz if self.card else self.seen.gpu_mhz


class Watch:
    """Read the machine's state at most once a second; call `look` between samples or from another thread.

    With `gpu` the run computes on a GPU, whose name and clocks then belong to the state.
    """

    def __init__(self, *, gpu: bool = False) -> None:
        self.machine: Machine = identify()
        self._gpu = gpu
        self.readings: list[Reading] = [_read(gpu)]
        self._load_1min = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._next_s = time.perf_counter() + INTERVAL_S

    def look(self) -> None:
        """Read again if a second has passed."""
        if time.perf_counter() >= self._next_s:
            self.readings.append(_read(self._gpu))
            self._next_s = time.perf_counter() + INTERVAL_S

    def state(self, versions: Mapping[str, str], span_ns: tuple[int, int] | None = None) -> MachineState:
        """The machine's state from the start of the watch until this call.

        Clocks, throttling and the highest temperature are those of the readings within `span_ns`, the measured time;
        without it, of all that `look` took. Counters are read at the readings around that time.
        """
        self.readings.append(_read(self._gpu))
        begin, inside, end = _span(self.readings, span_ns)
        first, last, seen = self.readings[0].seen, self.readings[-1].seen, [each.seen for each in inside]
        jetpack = jetpack_of(self.machine.l4t) if self.machine.l4t else None
        device = find_cuda_device() if self._gpu else None
        gpu_locked = first.gpu_clocks_locked if self._gpu else None
        return MachineState(
            target=target_of(self.machine).name,
            os=self.machine.os,
            kernel=self.machine.kernel,
            cpu_model=self.machine.cpu_model,
            cores=self.machine.cores,
            memory_total_mb=self.machine.memory_total_mb,
            power_mode=first.power_mode,
            governor=first.governor,
            clocks_locked=_all(first.clocks_locked, gpu_locked) if self._gpu else first.clocks_locked,
            jetpack=jetpack.name if jetpack else None,
            l4t=self.machine.l4t,
            tensorrt=versions.get("tensorrt"),
            versions={"edge-sdk": edge_sdk.__version__, "python": sys.version.split()[0]} | dict(versions),
            cpu_mhz=_spread([each.cpu_mhz for each in seen]),
            cpu_fastest_mhz=_spread([each.cpu_fastest_mhz for each in seen]),
            gpu_mhz=_spread([each.gpu_mhz for each in inside]),
            temperature_c=Span(start=_hottest(first), end=_hottest(last), max=_highest(map(_hottest, seen))),
            throttled=throttled(
                Seen(
                    [each.seen for each in self.readings],
                    begin.seen,
                    seen,
                    end.seen,
                    [each.card for each in inside if each.card],
                ),
                self.machine.arch,
                gpu=self._gpu,
            ),
            load_1min=self._load_1min,
            other_cores=_other_cores(begin.usage, end.usage),
            gpu=device.name if device else None,
            gpu_driver=_driver(self.machine, device.driver) if device else None,
            gpu_clocks_locked=gpu_locked,
            cpu_quota=_quota(begin.quota, end.quota),
        )

    def memory(self, model_bytes: int) -> MemoryMb:
        """Memory of this process, of the machine since the watch began, and of the model's files."""
        before, *later = (each.seen.memory_available_mb for each in self.readings)
        lowest = min((each for each in later if each is not None), default=None)
        return MemoryMb(
            peak_process=_peak_mb(),
            available_drop=None if before is None or lowest is None else before - lowest,
            engine_on_disk=model_bytes / 1e6,
        )


def validity(state: MachineState) -> list[str]:
    """Notes that a reader must know before trusting the numbers; empty if there are none."""
    notes = [*_clock_notes(state), *(state.throttled or ()), *_quota_notes(state.cpu_quota)]
    if state.throttled is None:
        notes.append("throttling cannot be seen here")
    if state.other_cores is None:
        notes.append("other load unknown")
    elif state.other_cores > BUSY_CORES:
        notes.append(f"other processes used {state.other_cores:.1f} of {state.cores} cores")
    return notes


def _clock_notes(state: MachineState) -> Iterator[str]:
    if state.clocks_locked is None:
        yield "clocks: whether they are locked cannot be read here"
    elif not state.clocks_locked:
        yield "clocks not locked"
    if state.gpu is not None and state.gpu_clocks_locked is None:
        yield "GPU clocks: whether they are locked cannot be read here"


def _quota_notes(quota: Quota | None) -> Iterator[str]:
    if quota is not None:
        held_back = f"held back {quota.held_back} times, {quota.held_back_s:.2f} s over all cores"
        yield f"CPU limit of {quota.cores:g} cores: {held_back if quota.held_back else 'never held back'}"


def commit(folder: Path) -> str | None:
    """The commit of the checkout that `folder` is part of, `+dirty` where files differ from it; None without git.

    Also None where git does not track the folder's files, as for a package installed somewhere inside another project.
    """
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not head or not _git(folder, "ls-files", "."):
        return None
    return head + (DIRTY if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read(gpu: bool) -> Reading:
    seen = observe()
    card = card_clock() if gpu and seen.gpu_mhz is None else None
    return Reading(time.perf_counter_ns(), seen, _usage(), cpu_quota(), card)


def _span(readings: Sequence[Reading], span_ns: tuple[int, int] | None) -> tuple[Reading, Sequence[Reading], Reading]:
    """The last reading before the measured time, those within it, and the first after it."""
    if span_ns is None:
        return readings[0], readings[1:-1], readings[-1]
    begin_ns, end_ns = span_ns
    before = [each for each in readings if each.at_ns <= begin_ns] or readings[:1]
    after = [each for each in readings if each.at_ns >= end_ns] or readings[-1:]
    return before[-1], [each for each in readings if begin_ns <= each.at_ns <= end_ns], after[0]


def _all(*locked: bool | None) -> bool | None:
    return False if False in locked else None if None in locked else True


def _driver(machine: Machine, cuda: str) -> str:
    known = machine.nvidia_driver
    return f"{known} (CUDA {cuda})" if known else f"CUDA {cuda}"


def _quota(begin: CpuQuota | None, end: CpuQuota | None) -> Quota | None:
    if begin is None or end is None:
        return None
    return Quota(
        cores=end.cores,
        held_back=end.held_back - begin.held_back,
        held_back_s=round(end.held_back_s - begin.held_back_s, 6),
    )


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(min=min(known, default=None), p50=median(known) if known else None)


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _hottest(seen: Conditions) -> float | None:
    return max(seen.temperatures_c.values(), default=None)


def _usage() -> tuple[float, float, float] | None:
    """Seconds: wall clock, CPU of the whole machine, CPU of this process and its ended children; None if unknown."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    return time.perf_counter(), sum(int(fields[i]) for i in WORK_FIELDS) * TICK_S, sum(os.times()[:4])


def _other_cores(begin: tuple[float, ...] | None, end: tuple[float, ...] | None) -> float | None:
    if begin is None or end is None:
        return None
    wall_s, machine_s, own_s = np.subtract(end, begin)
    return max(0.0, float((machine_s - own_s) / wall_s)) if wall_s > 0 else None


def _peak_mb() -> float | None:
    """Largest resident set of this process, from the kernel's high-water mark."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)
