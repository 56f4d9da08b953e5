"""Compare two measurements: how much slower the new one is, how certain that is, and whether it is allowed.

Latencies of neighbouring frames are similar, so a plain bootstrap would give too narrow intervals; blocks of frames are
drawn instead. A gate fails when the difference exceeds its limit and the whole interval lies on the slow side.

The interval covers the frames within the two runs only. Repeated runs also differ by heat, memory layout and other
load, which one pair cannot show.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.benchmarks.differences import differences
from edge_sdk.benchmarks.measure import NEEDED
from edge_sdk.benchmarks.report import Report, read_report, read_samples
from edge_sdk.errors import ConfigError
from edge_sdk.types import Value

DEFAULT_GATES = ("p50:3%", "p95:5%")
ROUNDS = 1000
SEED = 0
SCOPE = (
    "The 95 % intervals cover chance among the frames within this pair of runs, not what differs from run to run: "
    "repeat both in turn before you trust a small change."
)

_GATE = re.compile(r"(p50|p90|p95|p99):(\d+(?:\.\d+)?)%")


class Change(Value, frozen=True, kw_only=True):
    """One percentile in both runs. `relative` is new / old - 1.

    `lo`..`hi` is its bootstrap 95 % interval over the frames of this pair of runs.
    """

    percentile: str
    old_ms: float
    new_ms: float
    relative: float
    lo: float
    hi: float
    limit: float
    ok: bool


class Comparison(Value, frozen=True, kw_only=True):
    """Result of all gates. `differences` are conditions that differ between the runs and may explain a change."""

    old: str
    new: str
    changes: tuple[Change, ...]
    differences: tuple[str, ...]
    ok: bool

    def __str__(self) -> str:
        lines = [
            f"{each.percentile}: {each.old_ms:.3f} -> {each.new_ms:.3f} ms, {each.relative:+.1%} "
            f"({each.lo:+.1%} to {each.hi:+.1%}), allowed {each.limit:+.1%}: {'ok' if each.ok else 'SLOWER'}"
            for each in self.changes
        ]
        return "\n".join([*lines, *(f"not the same: {difference}" for difference in self.differences), SCOPE])


def compare(old: Path, new: Path, fail: Sequence[str] = DEFAULT_GATES) -> Comparison:
    """Compare two reports by the gates `fail`, such as `p50:3%`; none given means the default ones.

    Raises `ConfigError` for gates or files that cannot be read, scenarios or inputs that differ, or a percentile for
    which either run has too few samples.
    """
    reports = read_report(old), read_report(new)
    first, second = (_milliseconds(path, report) for path, report in zip((old, new), reports, strict=True))
    _check_alike(*reports)
    changes = tuple(_change(*_gate(text), first, second) for text in fail or DEFAULT_GATES)
    return Comparison(
        old=old.name,
        new=new.name,
        changes=changes,
        differences=differences(*reports),
        ok=all(change.ok for change in changes),
    )


def _check_alike(old: Report, new: Report) -> None:
    before, after = (
        {
            "scenario": each.method.scenario,
            "fps": each.method.fps,
            "input shape": each.subject.input_shape,
            "batch": each.subject.batch,
        }
        for each in (old, new)
    )
    unlike = [f"{name} is {before[name]} and {after[name]}" for name in before if before[name] != after[name]]
    if unlike:
        raise ConfigError(f"these runs cannot be compared: {', '.join(unlike)}; measure both in the same way")


def _milliseconds(path: Path, report: Report) -> NDArray[np.float64]:
    latency: NDArray[np.float64] = read_samples(path, report).latency / 1e6
    return latency


def _gate(text: str) -> tuple[str, float]:
    found = _GATE.fullmatch(text)
    if found is None:
        raise ConfigError(f"a gate is a percentile and a share, such as p50:3%; found {text!r}")
    return found.group(1), float(found.group(2)) / 100


def _change(name: str, limit: float, old: NDArray[np.float64], new: NDArray[np.float64]) -> Change:
    fewest = min(old.size, new.size)
    if fewest < NEEDED[name]:
        raise ConfigError(f"{name} needs {NEEDED[name]} samples, one run has {fewest}; measure longer")
    level = float(name[1:])
    before, after = (float(np.percentile(values, level)) for values in (old, new))
    ratios = _resampled(new, level, SEED + 1) / _resampled(old, level, SEED) - 1
    lo, hi = (float(bound) for bound in np.quantile(ratios, [0.025, 0.975]))
    relative = after / before - 1
    slower = relative > limit and lo > 0
    return Change(
        percentile=name, old_ms=before, new_ms=after, relative=relative, lo=lo, hi=hi, limit=limit, ok=not slower
    )


def _resampled(values: NDArray[np.float64], level: float, seed: int) -> NDArray[np.float64]:
    """The percentile in `ROUNDS` resamples of circular blocks of about sqrt(n) neighbours (Politis & Romano 1992)."""
    length = max(1, math.isqrt(values.size))
    count = math.ceil(values.size / length)
    begins = np.random.default_rng(seed).integers(0, values.size, (ROUNDS, count, 1))
    # One round at a time: together they would be a thousand times the samples, on a board with little memory.
    drawn = (values[(row + np.arange(length)) % values.size].ravel()[: values.size] for row in begins)
    return np.array([np.percentile(each, level) for each in drawn])
