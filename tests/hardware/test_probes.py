"""Probes: boards described by folders, and silence where a file is absent or makes no sense."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_sdk.hardware import Conditions, Machine, identify, observe


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    files = {
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        "var/lib/nvpmodel/status": "pmode:0002",
        "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release",
        "proc/meminfo": "MemTotal: 7802672 kB\nMemFree:  100 kB\nMemAvailable:    5000000 kB\nSwapFree: 7000000 kB\n",
        # As on a board: zram, which is memory too, and a file on the disk.
        "proc/swaps": "Filename Type Size Used Priority\n"
        "/dev/zram0 partition 3000000 0 5\n/swap file 4200000 200000 -2\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
        "sys/class/devfreq/154c0000.nvenc/cur_freq": "1000000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48218\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-250\n",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone2/temp": "not now\n",
    }
    for core, (now, low, high) in enumerate([(1728000, 729600, 1728000), (960000, 729600, 1728000)]):
        cpufreq = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files |= {f"{cpufreq}/scaling_cur_freq": f"{now}\n", f"{cpufreq}/scaling_min_freq": f"{low}\n"}
        files |= {f"{cpufreq}/scaling_max_freq": f"{high}\n", f"{cpufreq}/scaling_governor": "schedutil\n"}
    for path, text in files.items():
        put(tmp_path, path, text)
    return tmp_path


def test_a_jetson_is_described(jetson: Path) -> None:
    machine = identify(jetson)
    assert machine.os == "Ubuntu 22.04.5 LTS"
    assert machine.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert machine.l4t == "36.4.3"
    assert machine.nvidia_driver == "540.4.0"
    assert machine.cpu_model == "implementer 0x41 part 0xd42"
    assert machine.memory_total_mb == pytest.approx(7989.9, abs=0.1)


def test_the_conditions_of_a_jetson(jetson: Path) -> None:
    assert observe(jetson) == Conditions(
        cpu_mhz=960.0,
        cpu_fastest_mhz=1728.0,
        cpu_limit_mhz=1728.0,
        clocks_locked=False,
        governor="schedutil",
        gpu_mhz=306.0,
        gpu_limit_mhz=624.75,
        gpu_clocks_locked=False,
        power_mode="MAXN_SUPER",
        memory_available_mb=5120.0,
        swap_free_mb=4096.0,
        temperatures_c={"cpu-thermal": 48.218, "gpu-thermal": -0.25},
    )


def test_locked_clocks(jetson: Path) -> None:
    for core in (0, 1):
        put(jetson, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq", "1728000")
    now = observe(jetson)
    assert (now.clocks_locked, now.gpu_clocks_locked) == (True, False)
    put(jetson, "sys/class/devfreq/17000000.gpu/min_freq", "624750000")
    assert observe(jetson).gpu_clocks_locked is True


def test_the_clock_of_thor_s_video_engines_is_not_that_of_its_gpu(tmp_path: Path) -> None:
    for name, mhz in (("gpu-gpc-0", 1575), ("gpu-nvd-0", 300)):
        put(tmp_path, f"sys/class/devfreq/{name}/cur_freq", f"{mhz}000000")
    assert observe(tmp_path).gpu_mhz == 1575.0


def test_throttling_by_heat_is_counted_over_the_cores(tmp_path: Path) -> None:
    for core, (own, package) in enumerate([(2, 1), (0, 1)]):
        folder = f"sys/devices/system/cpu/cpu{core}/thermal_throttle"
        put(tmp_path, f"{folder}/core_throttle_count", f"{own}\n")
        put(tmp_path, f"{folder}/package_throttle_count", f"{package}\n")
    assert observe(tmp_path).cpu_throttles == 4


def test_a_power_mode_without_a_name(jetson: Path) -> None:
    put(jetson, "var/lib/nvpmodel/status", "pmode:0007 fmode:quiet")
    assert observe(jetson).power_mode == "mode 7"


def test_a_desktop(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "model name\t: Some CPU @ 2 GHz\ncpu MHz\t\t: 2600.5\ncpu MHz\t\t: 1200\n")
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "Maker\n")
    put(tmp_path, "sys/class/dmi/id/product_name", "Box 1\n")
    put(tmp_path, "sys/firmware/acpi/platform_profile", "balanced\n")
    put(
        tmp_path,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:\n",
    )
    machine, now = identify(tmp_path), observe(tmp_path)
    assert (machine.cpu_model, machine.board) == ("Some CPU @ 2 GHz", "Maker Box 1")
    assert machine.nvidia_driver == "550.54.15"
    assert (now.cpu_mhz, now.cpu_fastest_mhz, now.power_mode) == (1200.0, 2600.5, "balanced")


def silent(machine: Machine, now: Conditions) -> None:
    assert machine.os
    assert machine.cores >= 1
    assert [machine.cpu_model, machine.memory_total_mb, machine.board, machine.l4t, machine.nvidia_driver] == [None] * 5
    assert now == Conditions(
        cpu_mhz=None,
        cpu_limit_mhz=None,
        clocks_locked=None,
        governor=None,
        gpu_mhz=None,
        power_mode=None,
        memory_available_mb=None,
        temperatures_c={},
    )


def test_an_empty_machine_is_silent(tmp_path: Path) -> None:
    silent(identify(tmp_path), observe(tmp_path))


def test_files_without_sense_are_silent(jetson: Path) -> None:
    for path in sorted(path for path in jetson.rglob("*") if path.is_file()):
        path.write_bytes(b"\xff\xfe")
    for name in ("proc/device-tree/model", "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"):
        (jetson / name).unlink()
    silent(identify(jetson), observe(jetson))


def test_files_that_are_folders_are_silent(jetson: Path) -> None:
    for path in sorted(path for path in jetson.rglob("*") if path.is_file()):
        path.unlink()
        path.mkdir()
    silent(identify(jetson), observe(jetson))


def test_this_machine() -> None:
    machine, now = identify(), observe()
    assert machine.cores <= (os.cpu_count() or 0)
    if Path("/proc/meminfo").is_file():
        # free(1), which reads the same file: of a container's memory sysconf may tell the whole machine's.
        if shutil.which("free") is not None:
            told = subprocess.run(["free", "--bytes"], capture_output=True, text=True, timeout=20, check=True).stdout
            assert machine.memory_total_mb == pytest.approx(int(told.split("Mem:")[1].split()[0]) / 1e6, rel=0.001)
        assert machine.memory_total_mb is not None
        assert now.memory_available_mb is not None
        assert 0 < now.memory_available_mb <= machine.memory_total_mb
