"""The UTC time of an instant on the monotonic clock, and how far it can be trusted.

Frames are stamped on the monotonic clock, which never jumps. An event's UTC time is computed from the system clock when
it is asked for, so a clock that is set after boot also corrects the times of earlier frames.

Sources: adjtimex(2), clock_gettime(2); RFC 5905 11.2 (maximum error). Linux corrects the rate of both clocks alike, so
only a step of the system clock changes the difference between them.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Literal

from edge_sdk.types import Value

# <sys/timex.h>
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_BRACKETS = 3


class UtcTime(Value, frozen=True, kw_only=True):
    """An instant: `monotonic_s` on the clock of `time.monotonic()`, `utc_s` seconds since 1970-01-01 UTC.

    `uncertainty_s` is half the width of the interval that contains the true time, None if nothing vouches for the
    clock. `source` is "ntp" if the kernel says that a time service disciplines its clock; "system" if it does not, or
    if the kernel does not tell.
    """

    monotonic_s: float
    utc_s: float
    uncertainty_s: float | None
    source: Literal["system", "ntp"]

    @property
    def iso(self) -> str:
        """ISO 8601 with milliseconds, such as 2025-07-01T12:00:00.123Z."""
        rounded = datetime.fromtimestamp(round(self.utc_s * 1e3) / 1e3, timezone.utc)
        return rounded.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Discipline(Value, frozen=True, kw_only=True):
    """The kernel's state of its clock: whether a time service disciplines it, and its estimated and maximum error."""

    synchronised: bool
    max_error_s: float
    estimated_error_s: float


class _Timex(ctypes.Structure):
    """`struct timex` of the C library, with room for fields that later versions add."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    ]


def utc_of(monotonic_s: float) -> UtcTime:
    """Return the UTC time of `monotonic_s` (clock of `time.monotonic()`), by the system clock as currently set."""
    offset_s, reading_s = _utc_minus_monotonic()
    known = discipline()
    trusted = known is not None and known.synchronised
    return UtcTime(
        monotonic_s=monotonic_s,
        utc_s=monotonic_s + offset_s,
        uncertainty_s=known.max_error_s + reading_s if known is not None and trusted else None,
        source="ntp" if trusted else "system",
    )


def discipline() -> Discipline | None:
    """Read the state of the system clock; None if it is not available (not Linux, or forbidden by a sandbox)."""
    ask = _adjtimex()
    answer = _Timex()
    state = ask(ctypes.byref(answer)) if ask else -1
    if state < 0:
        return None
    return Discipline(
        synchronised=state != _TIME_ERROR and not answer.status & _STA_UNSYNC,
        max_error_s=answer.maxerror / 1e6,
        estimated_error_s=answer.esterror / 1e6,
    )


@functools.cache
def _adjtimex() -> Callable[..., int] | None:
    """Return the C library's `adjtimex`; with `modes` 0 it only reads, which needs no privilege."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


def _utc_minus_monotonic() -> tuple[float, float]:
    """Return the difference of the two clocks, and the maximum error of that reading, in seconds."""
    readings = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(_BRACKETS)]
    before_ns, utc_ns, after_ns = min(readings, key=lambda reading: reading[2] - reading[0])
    return (2 * utc_ns - before_ns - after_ns) / 2e9, (after_ns - before_ns) / 2e9
