"""The power that a board draws, by rail, as read by its own monitors; nothing is run or changed, as in `probes`.

Sources: Linux kernel documentation (`hwmon/sysfs-interface`, `hwmon/ina3221`, `hwmon/ina238`); Jetson Linux Developer
Guide, "Platform Power and Performance" (which rail feeds what).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from edge_sdk.hardware.sysfs import read_number, read_text

_CHANNEL = re.compile(r"curr(\d+)_input")
# Rails that feed a whole board or module, the most inclusive first. AGX Orin has no such rail: separate rails feed its
# GPU, its CPU, and everything else including memory.
_WHOLE = (("VIN",), ("VDD_IN",), ("POM_5V_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


class Draw(NamedTuple):
    """The power that a board draws, in W, and the rails, joined by +, that it is the sum of."""

    rail: str
    power_w: float


def rails_w(root: Path) -> dict[str, float]:
    """Read the power in W of each rail that a Jetson's monitors measure, by the rail's name; empty elsewhere."""
    found: dict[str, float] = {}
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        kind = read_text(monitor / "name")
        if kind == "ina3221":
            found |= dict(_channels(monitor))
        elif kind == "ina238" and (power_uw := read_number(monitor / "power1_input")) is not None:
            found[read_text(monitor / "label") or "VIN"] = power_uw / 1e6
    return found


def read_draw(root: Path = Path("/")) -> Draw | None:
    """Read what the whole board draws at this moment from files below `root`; see `whole_draw`."""
    return whole_draw(rails_w(root))


def whole_draw(rails: Mapping[str, float]) -> Draw | None:
    """Return what the whole board draws, or its module if no rail feeds more; None if the rails do not tell."""
    for names in _WHOLE:
        if all(name in rails for name in names):
            return Draw("+".join(names), sum(rails[name] for name in names))
    return None


def _channels(monitor: Path) -> Iterator[tuple[str, float]]:
    """Yield the power in W of each named channel of an INA3221, mV times mA; the sum channel has no voltage."""
    for path in sorted(monitor.glob("curr*_input")):
        number = _CHANNEL.fullmatch(path.name)
        if number is None:
            continue
        label = read_text(monitor / f"in{number[1]}_label")
        voltage_mv, current_ma = read_number(monitor / f"in{number[1]}_input"), read_number(path)
        if label and label != "NC" and voltage_mv is not None and current_ma is not None:
            yield label, voltage_mv * current_ma / 1e6
