"""What this machine is and which state it is in, read from the kernel's files; nothing is run or changed.

A sensor that cannot be read is None, never an error: boards, containers and virtual machines each hide different ones.
Every reader takes the root of the file system, so a folder can stand for a board.

Sources: Linux kernel documentation (`admin-guide/pm/cpufreq`, `driver-api/thermal/sysfs-api`, `devfreq` ABI,
`filesystems/proc`) and, for the counts of throttling, its `arch/x86/kernel/cpu/mce/therm_throt.c`; Jetson Linux
Developer Guide, "Platform Power and Performance" (nvpmodel).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edge_sdk.hardware.power import rails_w
from edge_sdk.hardware.sysfs import read_number, read_text
from edge_sdk.types import Value

ROOT = Path("/")

_GPU_CLOCK = re.compile(r"gpu(?!-nvd)|\.g[av]\d+b")
# Name, size and use of a line of /proc/swaps, KiB.
_SWAP = re.compile(r"(\S+)\s+\S+\s+(\d+)\s+(\d+)")
_DRIVER = re.compile(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+\.[\d.]+)")
_L4T = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_POWER_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")


class Machine(Value, frozen=True, kw_only=True):
    """Properties that do not change while a program runs. `cores` are those this process may use; MB are 10^6 bytes."""

    os: str
    kernel: str
    arch: str
    cores: int
    cpu_model: str | None
    memory_total_mb: float | None
    board: str | None
    l4t: str | None
    nvidia_driver: str | None


class Conditions(Value, frozen=True, kw_only=True):
    """Properties that change, at one instant.

    `cpu_mhz` is the current clock of the slowest core, `cpu_fastest_mhz` that of the fastest, and `cpu_limit_mhz` the
    highest clock that any core may reach. `gpu_mhz` and `gpu_limit_mhz` are those of a Jetson's GPU. `cpu_throttles`
    counts since boot how often an Intel CPU was throttled by heat, over all cores.
    `clocks_locked` says that no core may change its clock. `temperatures_c` has the thermal zones that can be read, by
    type, and `power_w` the rails that a power monitor reads, by name.
    """

    cpu_mhz: float | None
    cpu_limit_mhz: float | None
    clocks_locked: bool | None
    governor: str | None
    gpu_mhz: float | None
    power_mode: str | None
    memory_available_mb: float | None
    temperatures_c: dict[str, float]
    swap_free_mb: float | None = None
    power_w: dict[str, float] = msgspec.field(default_factory=dict)
    cpu_fastest_mhz: float | None = None
    cpu_throttles: float | None = None
    gpu_limit_mhz: float | None = None
    gpu_clocks_locked: bool | None = None


def identify(root: Path = ROOT) -> Machine:
    """Describe the machine whose files are below `root`."""
    return Machine(
        os=_field(root / "etc/os-release", "PRETTY_NAME", "=") or platform.system(),
        kernel=platform.release(),
        arch=platform.machine(),
        cores=_usable_cores(),
        cpu_model=_cpu_model(root),
        memory_total_mb=_memory_mb(root, "MemTotal"),
        board=_board(root),
        l4t=_l4t(root),
        nvidia_driver=_match(_DRIVER, read_text(root / "proc/driver/nvidia/version")),
    )


def observe(root: Path = ROOT) -> Conditions:
    """Read clocks, temperatures, power, power mode and free memory once."""
    clocks = root / "sys/devices/system/cpu"
    lowest = [read_number(path) for path in sorted(clocks.glob("cpu[0-9]*/cpufreq/scaling_min_freq"))]
    highest = [read_number(path) for path in sorted(clocks.glob("cpu[0-9]*/cpufreq/scaling_max_freq"))]
    cpu_mhz = _cpu_mhz(root)
    gpu_lowest, gpu_highest = _gpu_mhz(root, "min_freq"), _gpu_mhz(root, "max_freq")
    return Conditions(
        cpu_mhz=min(cpu_mhz, default=None),
        cpu_fastest_mhz=max(cpu_mhz, default=None),
        cpu_limit_mhz=_scaled(max(_known(highest), default=None), 1e-3),
        clocks_locked=lowest == highest if lowest and None not in lowest else None,
        governor=read_text(clocks / "cpu0/cpufreq/scaling_governor"),
        cpu_throttles=_cpu_throttles(clocks),
        gpu_mhz=_gpu_mhz(root, "cur_freq"),
        gpu_limit_mhz=gpu_highest,
        gpu_clocks_locked=None if gpu_lowest is None or gpu_highest is None else gpu_lowest == gpu_highest,
        power_mode=_power_mode(root),
        memory_available_mb=_memory_mb(root, "MemAvailable"),
        swap_free_mb=_swap_free_mb(root),
        temperatures_c=dict(_temperatures_c(root)),
        power_w=rails_w(root),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _match(pattern: re.Pattern[str], text: str | None) -> str | None:
    found = pattern.search(text or "")
    return found.group(1) if found else None


def _field(path: Path, name: str, separator: str) -> str | None:
    """Return the value of the first line `name<separator>value`, without quotes."""
    for line in (read_text(path) or "").splitlines():
        key, found, value = line.partition(separator)
        if found and key.strip() == name:
            return value.strip().strip('"') or None
    return None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model(root: Path) -> str | None:
    cpuinfo = root / "proc/cpuinfo"
    model = _field(cpuinfo, "model name", ":")
    if model:
        return model
    implementer, part = _field(cpuinfo, "CPU implementer", ":"), _field(cpuinfo, "CPU part", ":")
    return f"implementer {implementer} part {part}" if implementer and part else None


def _memory_mb(root: Path, name: str) -> float | None:
    text = _field(root / "proc/meminfo", name, ":")
    kib = _match(re.compile(r"^(\d+) kB$"), text)
    return float(kib) * 1024 / 1e6 if kib else None


def _swap_free_mb(root: Path) -> float | None:
    """Read the free swap on disks; zram does not count, because it uses the same memory."""
    heading, *lines = (read_text(root / "proc/swaps") or "").splitlines() or [""]
    if not heading.startswith("Filename"):
        return None
    disks = [found for line in lines if (found := _SWAP.match(line)) and not found[1].startswith("/dev/zram")]
    return sum(int(size) - int(used) for _, size, used in (found.groups() for found in disks)) * 1024 / 1e6


def _board(root: Path) -> str | None:
    model = read_text(root / "proc/device-tree/model")
    if model:
        return model
    names = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or None


def _l4t(root: Path) -> str | None:
    found = _L4T.search(read_text(root / "etc/nv_tegra_release") or "")
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _cpu_mhz(root: Path) -> list[float]:
    """Read the current clock of each core whose clock can be read."""
    current = root / "sys/devices/system/cpu"
    khz = _known(read_number(path) for path in current.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if khz:
        return [each / 1e3 for each in khz]
    text = read_text(root / "proc/cpuinfo") or ""
    return [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*(\d+\.?\d*)", text, re.MULTILINE)]


def _cpu_throttles(cpus: Path) -> float | None:
    counts = _known(read_number(path) for path in cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    return sum(counts) if counts else None


def _gpu_mhz(root: Path, name: str) -> float | None:
    """Read the file `name` of the GPU's clock; Thor's clock of the video engines is left out."""
    clocks = sorted((root / "sys/class/devfreq").glob(f"*/{name}"))
    hz = _known(read_number(path) for path in clocks if _GPU_CLOCK.search(path.parent.name))
    return _scaled(min(hz, default=None), 1e-6)


def _power_mode(root: Path) -> str | None:
    """Return the name of the board's nvpmodel mode, or the firmware's platform profile."""
    mode = _match(re.compile(r"pmode:(\d+)"), read_text(root / "var/lib/nvpmodel/status"))
    if mode is None:
        return read_text(root / "sys/firmware/acpi/platform_profile")
    for number, name in _POWER_MODE.findall(read_text(root / "etc/nvpmodel.conf") or ""):
        if int(number) == int(mode):
            return str(name)
    return f"mode {int(mode)}"


def _temperatures_c(root: Path) -> Iterator[tuple[str, float]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = read_number(zone / "temp")
        if millidegrees is not None:
            yield read_text(zone / "type") or zone.name, millidegrees / 1e3
