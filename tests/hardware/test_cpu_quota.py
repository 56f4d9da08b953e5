"""CPU limits of control groups: folders in the place of the kernel's, and this machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.hardware.cpu_quota import CpuQuota, cpu_quota


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/system.slice/edge.service\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n")
    put(
        tmp_path,
        "sys/fs/cgroup/system.slice/cpu.stat",
        "usage_usec 9\nnr_periods 20\nnr_throttled 7\nthrottled_usec 350000\n",
    )
    put(tmp_path, "sys/fs/cgroup/system.slice/edge.service/cpu.max", "150000 100000\n")
    assert cpu_quota(tmp_path) == CpuQuota(cores=0.5, held_back=7, held_back_s=0.35)


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/../../docker/abc\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert cpu_quota(tmp_path) == CpuQuota(cores=2.0, held_back=0, held_back_s=0.0)


def test_the_cpu_controller_of_older_systems(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "5:memory:/x\n3:cpu,cpuacct:/x\n0::/\n")
    for name, text in (("cfs_quota_us", "25000"), ("cfs_period_us", "100000"), ("stat", "nr_throttled 3\n")):
        put(tmp_path, f"sys/fs/cgroup/cpu/x/cpu.{name}", text)
    put(tmp_path, "sys/fs/cgroup/cpu/x/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n")
    assert cpu_quota(tmp_path) == CpuQuota(cores=0.25, held_back=3, held_back_s=1.5)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "rubbish\n"},
        {"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"},
        {"proc/self/cgroup": "1:cpuset:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1000\n"},
    ],
    ids=["nothing", "no limit", "rubbish", "no limit in version 1", "another controller"],
)
def test_no_limit_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    assert cpu_quota(tmp_path) is None
