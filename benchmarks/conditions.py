"""The state of the machine around and during a run, and whatever in it casts doubt on the numbers.

Nothing is changed: clocks and power modes are only read. An invalid run is kept and labelled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

import edge_sdk
from edge_sdk.benchmarks.report import MachineState, MemoryMb, Span, Spread
from edge_sdk.hardware import Conditions, Machine, identify, jetpack_of, observe, target_of

INTERVAL_S = 1.0
# Use of the CPU by other processes is noted if it exceeds this many cores.
BUSY_CORES = 0.1
# A clock below this share of its limit, or of its first reading, was throttled or scaled.
CLOCK_SHARE = 0.9
# /proc/stat counts time in ticks of this length.
TICK_S = 0.01
# Fields of the first line of /proc/stat that are work: user, nice, system, irq, softirq, steal.
WORK_FIELDS = (1, 2, 3, 6, 7, 8)


class Watch:
    """Read the machine's state at most once a second; call `look` between samples or from another thread."""

    def __init__(self) -> None:
        self.machine: Machine = identify()
        self.seen: list[Conditions] = [observe()]
        self._load_1min = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._next_s = time.perf_counter() + INTERVAL_S
        self._begin = _usage()

    def look(self) -> None:
        """Read again if a second has passed."""
        if time.perf_counter() >= self._next_s:
            self.seen.append(observe())
            self._next_s = time.perf_counter() + INTERVAL_S

    def state(self, versions: Mapping[str, str]) -> MachineState:
        """The machine's state from the start of the watch until this call."""
        self.seen.append(observe())
        first, last = self.seen[0], self.seen[-1]
        jetpack = jetpack_of(self.machine.l4t) if self.machine.l4t else None
        return MachineState(
            target=target_of(self.machine).name,
            os=self.machine.os,
            kernel=self.machine.kernel,
            cpu_model=self.machine.cpu_model,
            cores=self.machine.cores,
            memory_total_mb=self.machine.memory_total_mb,
            power_mode=first.power_mode,
            governor=first.governor,
            clocks_locked=first.clocks_locked,
            jetpack=jetpack.name if jetpack else None,
            l4t=self.machine.l4t,
            tensorrt=versions.get("tensorrt"),
            versions={"edge-sdk": edge_sdk.__version__, "python": sys.version.split()[0]} | dict(versions),
            cpu_mhz=_spread([each.cpu_mhz for each in self.seen]),
            gpu_mhz=_spread([each.gpu_mhz for each in self.seen]),
            temperature_c=Span(start=_hottest(first), end=_hottest(last)),
            throttled=_throttled(self.seen),
            load_1min=self._load_1min,
            other_cores=_other_cores(self._begin, _usage()),
        )

    def memory(self, graph: Path) -> MemoryMb:
        """Memory of this process and of the machine, and the graph's file."""
        before, after = self.seen[0].memory_available_mb, self.seen[-1].memory_available_mb
        return MemoryMb(
            peak_process=_peak_mb(),
            available_drop=None if before is None or after is None else before - after,
            engine_on_disk=graph.stat().st_size / 1e6,
        )


def validity(state: MachineState) -> list[str]:
    """Notes that a reader must know before trusting the numbers; empty if there are none."""
    notes = []
    if state.clocks_locked is None:
        notes.append("clocks: whether they are locked cannot be read here")
    elif not state.clocks_locked:
        notes.append("clocks not locked")
    notes += state.throttled or ()
    if state.throttled is None:
        notes.append("throttling cannot be seen here")
    if state.other_cores is None:
        notes.append("other load unknown")
    elif state.other_cores > BUSY_CORES:
        notes.append(f"other processes used {state.other_cores:.1f} of {state.cores} cores")
    return notes


def commit(folder: Path) -> str | None:
    """The commit of the checkout that `folder` is part of, `+dirty` where files differ from it; None without git.

    Also None where git does not track the folder's files, as for a package installed somewhere inside another project.
    """
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not head or not _git(folder, "ls-files", "."):
        return None
    return head + ("+dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(min=min(known, default=None), p50=median(known) if known else None)


def _hottest(seen: Conditions) -> float | None:
    return max(seen.temperatures_c.values(), default=None)


def _throttled(seen: Sequence[Conditions]) -> tuple[str, ...] | None:
    """Drops of the clocks, as sentences; None where no clock can be read."""
    clocks = {"CPU": [each.cpu_mhz for each in seen], "GPU": [each.gpu_mhz for each in seen]}
    found: list[str] = []
    for name, values in clocks.items():
        known = [value for value in values if value is not None]
        if known and min(known) < CLOCK_SHARE * known[0]:
            found.append(f"{name} clock fell from {known[0]:.0f} to {min(known):.0f} MHz")
    if all(value is None for value in clocks["CPU"]):
        return tuple(found) or None
    return tuple(found)


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
