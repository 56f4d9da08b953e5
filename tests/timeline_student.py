"""A student whose timeline is tested, and its operating point."""

from __future__ import annotations

from edge_sdk.bundle.manifest import OperatingPoint, Residual, Student

RATE_HZ = 10.0
DELAY = 5
POINT = OperatingPoint(
    provisional=0.35,
    confirm=0.5,
    release=0.2,
    confirm_frames=3,
    crash_start=Residual(lo_s=-0.3, hi_s=0.4),
    crash_end=Residual(lo_s=-0.5, hi_s=0.5),
    pre_crash_start=Residual(lo_s=-0.6, hi_s=0.2),
)


def student(point: OperatingPoint = POINT) -> Student:
    return Student(
        rate_hz=RATE_HZ,
        height=192,
        width=320,
        lags=(1, 3),
        scores=("crash", "pre_crash", "start", "end"),
        heat_delay_frames=DELAY,
        operating_point=point,
    )
