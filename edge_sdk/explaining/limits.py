"""Keeping the reasoner small and patient beside the student, as far as the system lets a program do it to itself."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path

from edge_sdk.errors import ConfigError
from edge_sdk.hardware.cgroup import least_mb, memory_room_mb

_MB = 1e6
# Of the memory that is free, what the reasoner may plan with: some of it is needed by what else runs.
_FREE_SHARE = 0.9
# When memory runs out on Linux the process with the highest score goes first: 0..1000, others have about 0.
_OOM_SCORE = 900


def be_patient(niceness: int) -> None:
    """Take `niceness` more, run in batches that never preempt, and be the first to go when memory runs out.

    Linux has both for each thread by itself, and libraries start some when they are imported.
    """
    wanted = os.nice(niceness)
    for thread in _threads():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, wanted)
            if hasattr(os, "SCHED_BATCH"):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):
        # Containers may give all their processes a higher one.
        score.write_text(str(max(_OOM_SCORE, int(score.read_text()))))


def _threads() -> list[int]:
    """Every thread of this process; 0, the one that asks, where the system does not list them."""
    tasks = Path("/proc/self/task")
    return [int(each.name) for each in tasks.iterdir()] if tasks.is_dir() else [0]


def limit_memory(budget_mb: float | None) -> float | None:
    """Bound the process's own memory by `budget_mb`, or by what is free here; what is left of it now, 10^6 bytes.

    Free is what the machine has, or less where a container or a service manager allows less.

    What is bounded is the data that Linux counts as the process's own (`RLIMIT_DATA`): not files that are only read,
    which the system may drop, and not a GPU's memory. Beyond it an allocation fails. None where nothing is bounded.
    A hard limit of the system's own is kept. Raises `ConfigError` for a budget, or a limit, that is spent already.
    """
    used_mb = _status_mb("/proc/self/status", "VmData")
    free_mb = least_mb(_status_mb("/proc/meminfo", "MemAvailable"), memory_room_mb())
    if used_mb is None or free_mb is None or not sys.platform.startswith("linux"):
        return budget_mb
    most_mb = budget_mb if budget_mb is not None else used_mb + _FREE_SHARE * free_mb
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most_mb = min(most_mb, hard / _MB)
    if most_mb <= used_mb:
        found = f"{most_mb:.1f} MB; raise it" if budget_mb is not None else f"{most_mb:.1f} MB free; make room"
        taken = f"{ceil(used_mb * 10) / 10:.1f} MB that the reasoner's libraries take"
        raise ConfigError(f"expected a memory budget above the {taken}, found {found}")
    resource.setrlimit(resource.RLIMIT_DATA, (int(most_mb * _MB), hard))
    return most_mb - used_mb


def resident_mb() -> float:
    """The most memory that the process had resident so far, 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB


def _status_mb(path: str, name: str) -> float | None:
    """The line `name` of a file of /proc, which gives kB of 1,024 bytes; None where it is not there."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / _MB
    return None
