"""What is left to a process in a container, from folders as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.hardware.cgroup import least_mb, memory_room_mb

UNLIMITED_V1 = "9223372036854771712\n"


def lay(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_a_container_of_today_has_what_its_limit_leaves(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "4000000000\n",
            "sys/fs/cgroup/memory.high": "max\n",
            "sys/fs/cgroup/memory.current": "1500000000\n",
            "sys/fs/cgroup/memory.stat": "anon 900000000\ninactive_file 200000000\nactive_file 100000000\n",
        },
    )
    assert memory_room_mb(root) == 2800.0


def test_the_least_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    service = "sys/fs/cgroup/system.slice/crash.service"
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/crash.service\n",
            f"{service}/memory.max": "max\n",
            f"{service}/memory.high": "2000000000\n",
            f"{service}/memory.current": "500000000\n",
            "sys/fs/cgroup/system.slice/memory.max": "3000000000\n",
            "sys/fs/cgroup/system.slice/memory.current": "2900000000\n",
        },
    )
    assert memory_room_mb(root) == 100.0
    (root / "sys/fs/cgroup/system.slice/memory.max").write_text("max\n")
    assert memory_room_mb(root) == 1500.0


@pytest.mark.parametrize("there", [True, False])
def test_the_memory_controller_of_older_systems(tmp_path: Path, there: bool) -> None:
    """A container sees its own group at the root, though the system's name for it, /docker/ab, leads nowhere there."""
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "9:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/docker/ab\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1 if there else "2000000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1200000000\n",
            "sys/fs/cgroup/memory/memory.stat": "active_file 2\ntotal_inactive_file 5\ntotal_active_file 199999995\n",
        },
    )
    if there:
        lay(
            root,
            {
                "sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes": "1200000000\n",
            },
        )
    assert memory_room_mb(root) == (0.0 if there else 1000.0)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1},
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n"},
        {"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": "1000\n"},
    ],
)
def test_without_a_limit_that_can_be_read_nothing_is_said(tmp_path: Path, files: dict[str, str]) -> None:
    assert memory_room_mb(lay(tmp_path, files)) is None


def test_what_is_not_known_is_not_the_least() -> None:
    assert least_mb(None, 3.0, 2.0) == 2.0
    assert least_mb(None) is None
