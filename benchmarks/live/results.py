"""Shared parts of the live benchmarks: quantiles of ages, the conditions of a run, writing of results."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.benchmarks.conditions import TICK_S, Watch, commit, validity
from edge_sdk.benchmarks.live.server import Stream
from edge_sdk.benchmarks.measure import NEEDED, percentiles
from edge_sdk.benchmarks.report import MachineState
from edge_sdk.errors import ConfigError
from edge_sdk.files import write_json
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.types import Value

_LIBC = ctypes.CDLL(None)
# The least share of rounds with a new frame: at ten rounds a second a camera has three pictures for each of them.
LEAST_FRESH = 0.99
_LONGEST_S, _MOST_HZ = 24 * 3600.0, 1000.0


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    )


class Ages(Value, frozen=True, kw_only=True):
    """Ages of frames in ms; a percentile is null with too few frames for it (`benchmarks/measure.py`)."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Setting(Value, frozen=True, kw_only=True):
    """Machine and software of a measurement. `server_cores` is the server's CPU use on the same machine, in cores."""

    started_utc: str
    commit: str | None
    bundle_sha256: str | None
    stream: Stream
    server_cores: float | None
    own_cores: float
    machine: MachineState
    validity: tuple[str, ...]


class Observer:
    """Watch machine, server and this process from construction until `setting` is called."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._started = datetime.now(timezone.utc)
        self._begin = cpu_s(os.getpid())

    def look(self) -> None:
        """Read the machine's state if a second has passed."""
        self._watch.look()

    def setting(self, stream: Stream, bundle_sha256: str | None, server_cores: float | None) -> Setting:
        """The observed setting. Call it after server and reasoner have ended: then they count as this process."""
        wall_s = (datetime.now(timezone.utc) - self._started).total_seconds()
        state = self._watch.state(open_runtime(DEFAULT_RUNTIME).describe())
        return Setting(
            started_utc=f"{self._started:%Y-%m-%dT%H:%M:%SZ}",
            commit=commit(Path(__file__).resolve().parent),
            bundle_sha256=bundle_sha256,
            stream=msgspec.structs.replace(stream, user="", password=""),
            server_cores=server_cores,
            own_cores=(cpu_s(os.getpid()) - self._begin) / wall_s,
            machine=state,
            validity=tuple(validity(state)),
        )


def ages_of(values_ms: Sequence[float]) -> Ages:
    """The quantiles of `values_ms`."""
    told = percentiles(np.asarray(values_ms, np.float64))
    return Ages(
        count=len(values_ms),
        p50_ms=told["p50"],
        p95_ms=told["p95"],
        p99_ms=told["p99"],
        max_ms=max(values_ms, default=None),
    )


def worst_of(sources: Sequence[Ages]) -> Ages:
    """Each quantile of the source where it is greatest; null where a source has too few frames for it."""
    assert sources
    return Ages(
        count=min(each.count for each in sources),
        p50_ms=_greatest([each.p50_ms for each in sources]),
        p95_ms=_greatest([each.p95_ms for each in sources]),
        p99_ms=_greatest([each.p99_ms for each in sources]),
        max_ms=_greatest([each.max_ms for each in sources]),
    )


def _greatest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def check_length(seconds: float, rate_hz: float) -> None:
    """Raise `ConfigError` for a rate or a length out of range, and for one with too few rounds for a p95."""
    if not 0 < rate_hz <= _MOST_HZ:
        raise ConfigError(f"expected a rate above 0 and up to {_MOST_HZ:g} rounds a second, found {rate_hz:g}")
    # One round more, because the first or the last one may fall just outside the time.
    rounds = math.ceil(NEEDED["p95"] / LEAST_FRESH) + 1
    least_s = math.ceil(rounds / rate_hz * 10) / 10
    if not least_s <= seconds <= _LONGEST_S:
        raise ConfigError(
            f"expected {least_s:g} to {_LONGEST_S:g} s at {rate_hz:g} rounds a second, because a p95 needs {rounds} "
            f"rounds; found {seconds:g} s"
        )


def cpu_s(pid: int) -> float:
    """CPU seconds used by a process so far, 0 where it is gone or cannot be read (proc(5), /proc/PID/stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def resident_kb() -> float:
    """Resident set of this process in 1,024 bytes (proc(5), /proc/PID/statm), after free pages are returned.

    The allocator keeps some freed memory in its arenas for reuse, which must not count as growth.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def heap_kb() -> float | None:
    """Memory in use from `malloc`, in 1,024 bytes (mallinfo(3)); None where the C library does not report it."""
    if not hasattr(_LIBC, "mallinfo2"):
        return None
    _LIBC.mallinfo2.restype = _Mallinfo
    told = _LIBC.mallinfo2()
    return float(told.uordblks + told.hblkhd) / 1024


def write_result(result: Value, path: Path) -> None:
    """Write `result` as indented JSON."""
    write_json(path, result, indent=1)
