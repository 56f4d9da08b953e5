"""How much more memory a container or a service manager lets this process use.

/proc/meminfo describes the whole machine, even in a container. Control groups are read as the kernel's documentation
describes them: admin-guide/cgroup-v2 and, for the memory controller of older systems, admin-guide/cgroup-v1/memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.hardware.sysfs import read_number, read_text

ROOT = Path("/")
_MB = 1e6


class _Layout(NamedTuple):
    """The folder of a hierarchy, its files with limits and usage, and the lines of `memory.stat` with file pages."""

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
    """Return the memory that this process's control groups leave it, 10^6 bytes; None if none of them has a limit.

    It is the minimum over the process's own group and those above; their files are read below `root`. File pages do not
    count as used, as in MemAvailable, because the kernel drops them before it refuses memory.
    """
    rooms = [room for layout, name in _groups(root) for room in _rooms(root, layout, name)]
    return max(0.0, min(rooms)) / _MB if rooms else None


def least_mb(*known: float | None) -> float | None:
    """Return the smallest of the known numbers; None if none is known."""
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
    """Yield what each group leaves, in bytes, from the process's own up to the highest that is mounted here."""
    parts = [part for part in name.split("/") if part not in ("", "..")]
    # In a container, the highest mounted group is often its own, whatever its name outside the container.
    for depth in range(len(parts), -1, -1):
        group = root / layout.folder / Path(*parts[:depth])
        # No limit is "max" in version 2, and a number larger than any machine's memory in version 1.
        limits = [found for each in layout.limits if (found := read_number(group / each)) is not None and found < 2**60]
        used = read_number(group / layout.used)
        if limits and used is not None:
            yield min(limits) - used + _pages(group, layout)


def _pages(group: Path, layout: _Layout) -> float:
    lines = (line.partition(" ") for line in (read_text(group / "memory.stat") or "").splitlines())
    return sum(float(value) for name, _, value in lines if name in layout.pages and value.isdigit())
