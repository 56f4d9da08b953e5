"""Score traces with a known truth: clips whose crash, near miss or calm scores a chosen level for two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from scene_records import scene_record

from edge_sdk.bundle.manifest import OperatingPoint, Student
from edge_sdk.calibration.operating_points import ScoredClip
from edge_sdk.clips import LabelledClip
from edge_sdk.perception.timeline import FrameScores

STUDENT = Student(
    rate_hz=10.0,
    height=192,
    width=320,
    lags=(1, 3),
    scores=("crash", "pre_crash", "start", "end"),
    heat_delay_frames=5,
    operating_point=OperatingPoint(),
)
FRAMES, START_S = 90, 4.0
# What counts as ordinary footage before a crash: up to 1.5 s before its first sign.
SIGN_S = 3.0


def trace(
    name: str, kind: Literal["rear_end", "near_miss", "normal"], level: float, shown_after_s: float = 0.0
) -> ScoredClip:
    """Nine seconds that score .01 but for two seconds of `level`; a crash begins at `START_S`, its heat later."""
    crash = kind == "rear_end"
    times = np.arange(FRAMES) / 10
    shown_s = START_S + shown_after_s
    scores = np.where((times >= shown_s - 1e-9) & (times < shown_s + 2), level, 0.01)
    heat = 0.9 * np.exp(-((times - shown_s - 0.5) ** 2) / 0.08) if crash else np.zeros(FRAMES)
    rows = [FrameScores(float(t), float(s), 0.0, float(h), 0.0) for t, s, h in zip(times, scores, heat, strict=True)]
    record = scene_record(
        (SIGN_S, START_S, START_S + 2) if crash else None,
        name=name,
        view="dashcam",
        kind=kind,
        ego_involved=crash,
        frames=FRAMES,
        duration_s=FRAMES / 10,
    )
    label = LabelledClip(
        path=Path(f"{name}.mp4"),
        view="dashcam",
        crash=crash,
        start_s=record.crash_start_s,
        end_s=record.crash_end_s,
        pre_crash_s=record.pre_crash_start_s,
        group=name,
        record=record,
    )
    return ScoredClip(label, rows)


def drawn(rng: np.random.Generator, crashes: int, near_misses: int, normals: int) -> list[ScoredClip]:
    """Clips whose levels overlap: crashes mostly high, near misses in the middle, normal drives mostly low."""
    found = [trace(f"crash{k}", "rear_end", float(rng.beta(5, 2)), float(rng.exponential(0.2))) for k in range(crashes)]
    found += [trace(f"near{k}", "near_miss", float(rng.beta(3, 3))) for k in range(near_misses)]
    return found + [trace(f"normal{k}", "normal", float(rng.beta(2, 6))) for k in range(normals)]
