"""Conditions that differ between two measurements, in words: each may explain a change of the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.benchmarks.conditions import BUSY_CORES
from edge_sdk.benchmarks.report import MachineState, Quota, Report, Spread

# Clocks whose medians differ by less than this share are the same clock, read at other moments.
SAME_CLOCK = 0.02
Words = dict[str, str | None]


def differences(old: Report, new: Report) -> tuple[str, ...]:
    """What differs between two runs apart from the measured numbers; what neither recorded is no difference."""
    before, after = _words(old), _words(new)
    found = [
        f"{name}: {_said(before[name])} and {_said(after[name])}" for name in before if before[name] != after[name]
    ]
    return (*found, *_clocks(old.machine, new.machine), *_versions(old.machine.versions, new.machine.versions))


def _words(report: Report) -> Words:
    machine, subject, method = report.machine, report.subject, report.method
    return {
        "target": machine.target,
        "system": machine.os,
        "kernel": machine.kernel,
        "L4T": machine.l4t,
        "CPU": machine.cpu_model,
        "cores": str(machine.cores),
        "CPU limit": _limit(machine.cpu_quota),
        "GPU": machine.gpu,
        "GPU driver": machine.gpu_driver,
        "power mode": machine.power_mode,
        "governor": machine.governor,
        "clocks locked": _yes(machine.clocks_locked),
        "throttled": "cannot be seen" if machine.throttled is None else "; ".join(machine.throttled) or "no",
        "other load": _load(machine.other_cores),
        "runtime": subject.runtime,
        "bundle": subject.bundle_sha256[:12],
        "engine": (subject.engine_sha256 or "")[:12] or None,
        "precision": ", ".join(f"{part} {precision}" for part, precision in subject.precision.items()),
        "threads": str(method.threads),
        "warm-up": f"{method.warmup_s:g} s",
    }


def _limit(quota: Quota | None) -> str | None:
    if quota is None:
        return None
    return f"{quota.cores:g} cores" + (", which held the run back" if quota.held_back else "")


def _load(other_cores: float | None) -> str | None:
    if other_cores is None:
        return None
    return "none" if other_cores <= BUSY_CORES else f"{other_cores:.1f} cores"


def _clocks(old: MachineState, new: MachineState) -> Iterator[str]:
    pairs = {
        "CPU clock": (old.cpu_fastest_mhz or old.cpu_mhz, new.cpu_fastest_mhz or new.cpu_mhz),
        "GPU clock": (old.gpu_mhz, new.gpu_mhz),
    }
    for name, (before, after) in pairs.items():
        if not _same_clock(before, after):
            yield f"{name}: {_said(_mhz(before))} and {_said(_mhz(after))}"


def _same_clock(old: Spread, new: Spread) -> bool:
    if old.p50 is None or new.p50 is None:
        return old.p50 == new.p50
    return abs(new.p50 - old.p50) <= SAME_CLOCK * old.p50


def _mhz(clock: Spread) -> str | None:
    return None if clock.p50 is None else f"{clock.p50:.0f} MHz"


def _versions(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"version of {name}: {_said(before)} and {_said(after)}"


def _said(value: str | None) -> str:
    return "not recorded" if value is None else value


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"
