"""How much memory a container, or a service manager, still lets this process have.

/proc/meminfo is the whole machine's in a container too. Control groups are read as the kernel's documents lay them out:
admin-guide/cgroup-v2 and, for the memory controller of older systems, admin-guide/cgroup-v1/memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.hardware.sysfs import read_number, read_text

ROOT = Path("/")
_MB = 1e6


class _Layout(NamedTuple):
    """Where a hierarchy lies, which files hold its limits and what is used, and which lines the pages of files."""

    folder: str
    limits: tuple[str, ...]
    used: str
    pages: frozenset[str]


_V2 = _Layout(
    "sys/fs/cgroup",
    ("memory.max", "memory.high"),
    "memory.current",
    frozenset({"inactive_file", "active_file"}),
)
_V1 = _Layout(
    "sys/fs/cgroup/memory",
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    frozenset({"total_inactive_file", "total_active_file"}),
)


def memory_room_mb(root: Path = ROOT) -> float | None:
    """What the control groups of this process leave it, 10^6 bytes, below `root`; None where none of them has a limit.

    The least over its own group and those above. Pages of files do not count as used, as in MemAvailable: the kernel
    drops them before it refuses memory.
    """
    rooms = [room for layout, name in _groups(root) for room in _rooms(root, layout, name)]
    return max(0.0, min(rooms)) / _MB if rooms else None


def least_mb(*known: float | None) -> float | None:
    """The least of the numbers that are known; None where none is."""
    return min((each for each in known if each is not None), default=None)


def _groups(root: Path) -> Iterator[tuple[_Layout, str]]:
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:
            yield _V2, name
        elif "memory" in controllers.split(","):
            yield _V1, name


def _rooms(root: Path, layout: _Layout, name: str) -> Iterator[float]:
    """What each group leaves, from the process's own up to the highest that is mounted here."""
    parts = [part for part in name.split("/") if part not in ("", "..")]
    # In a container the highest that is mounted is often its own, by whatever name the system outside knows it.
    for depth in range(len(parts), -1, -1):
        group = root / layout.folder / Path(*parts[:depth])
        # "max" in one version, a number beyond any machine in the other: neither is a limit.
        limits = [found for each in layout.limits if (found := read_number(group / each)) is not None and found < 2**60]
        used = read_number(group / layout.used)
        if limits and used is not None:
            yield min(limits) - used + _pages(group, layout)


def _pages(group: Path, layout: _Layout) -> float:
    lines = (line.partition(" ") for line in (read_text(group / "memory.stat") or "").splitlines())
    return sum(float(value) for name, _, value in lines if name in layout.pages and value.isdigit())
