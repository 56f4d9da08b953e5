"""How much CPU time a container or a service manager lets this process use, and how often it was held back for it.

Control groups are read as the kernel's documentation describes them: admin-guide/cgroup-v2 and, for the CPU controller
of older systems, scheduler/sched-bwc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.hardware.sysfs import read_number, read_text

ROOT = Path("/")
# Microseconds of CPU time, and the period in which they may be used.
_LIMIT = re.compile(r"(\d+) ([1-9]\d*)")


class CpuQuota(NamedTuple):
    """The limit in cores, and since the groups were made: in how many periods it held them back, for how many seconds.

    The seconds add up over cores, so they may exceed the time that passed.
    """

    cores: float
    held_back: int
    held_back_s: float


def cpu_quota(root: Path = ROOT) -> CpuQuota | None:
    """Return the limit of this process's control groups, read below `root`; None if none of them has a limit.

    The smallest limit of the process's own group and those above counts; what held any of them back adds up.
    """
    found = [quota for group in _groups(root) if (quota := _quota(group))]
    if not found:
        return None
    return CpuQuota(
        cores=min(each.cores for each in found),
        held_back=sum(each.held_back for each in found),
        held_back_s=sum(each.held_back_s for each in found),
    )


def _groups(root: Path) -> Iterator[Path]:
    """Yield the process's own groups and those above that are mounted here."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        parts = [part for part in name.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield mounted / Path(*parts[:depth])


def _quota(group: Path) -> CpuQuota | None:
    cores = _cores(group)
    if cores is None:
        return None
    lines = (line.split() for line in (read_text(group / "cpu.stat") or "").splitlines())
    counts = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
    held_back_s = counts.get("throttled_usec", 0) / 1e6 + counts.get("throttled_time", 0) / 1e9
    return CpuQuota(cores, counts.get("nr_throttled", 0), held_back_s)


def _cores(group: Path) -> float | None:
    """Read version 2's `cpu.max`, such as "50000 100000" or "max 100000", or the two files of version 1."""
    limit = _LIMIT.fullmatch(read_text(group / "cpu.max") or "")
    if limit is not None:
        return int(limit[1]) / int(limit[2])
    quota_us, period_us = (read_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else None
