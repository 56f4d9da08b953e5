"""Limit the reasoner's memory and priority in favour of the student, as far as a process can do this to itself."""

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
# Share of the free memory that the reasoner may use; other programs need the rest.
_FREE_SHARE = 0.9
# When memory runs out, Linux kills the process with the highest score (0..1000) first; others have about 0.
_OOM_SCORE = 900


def be_patient(niceness: int) -> None:
    """Raise the niceness by `niceness`, use the batch scheduler, and be killed first when memory runs out.

    On Linux, niceness and scheduler apply to each thread, and libraries start threads when they are imported.
    """
    wanted = os.nice(niceness)
    for thread in _threads():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, wanted)
            if hasattr(os, "SCHED_BATCH"):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):
        # A container may already give all its processes a higher score.
        score.write_text(str(max(_OOM_SCORE, int(score.read_text()))))


def _threads() -> list[int]:
    """Return every thread of this process; only 0, the calling thread, if the system does not list them."""
    tasks = Path("/proc/self/task")
    return [int(each.name) for each in tasks.iterdir()] if tasks.is_dir() else [0]


def limit_memory(budget_mb: float | None) -> float | None:
    """Limit the process's own memory to `budget_mb`, or else by the free memory; return the rest, in 10^6 bytes.

    Free memory is that of the machine, or less if a container or a service manager allows less.

    The limit covers the data that Linux counts as the process's own (`RLIMIT_DATA`). It does not cover mapped files
    that are only read, which the system may drop, or GPU memory. Beyond the limit, allocations fail. An existing hard
    limit is kept. Without Linux or its memory figures, no limit is set and `budget_mb` is returned. Raises
    `ConfigError` if the budget or the limit is already used up.
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
        found = (
            f"{most_mb:.1f} MB; raise it" if budget_mb is not None else f"{most_mb:.1f} MB free; close other programs"
        )
        taken = f"{ceil(used_mb * 10) / 10:.1f} MB that the reasoner's libraries take"
        raise ConfigError(f"expected a memory budget above the {taken}, found {found}")
    resource.setrlimit(resource.RLIMIT_DATA, (int(most_mb * _MB), hard))
    return most_mb - used_mb


def resident_mb() -> float:
    """Return the peak resident memory of the process so far, in 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB


def _status_mb(path: str, name: str) -> float | None:
    """Return line `name` of a /proc file, in 10^6 bytes (the file has kB of 1,024 bytes); None if it is missing."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / _MB
    return None
