"""Records of scenes that nobody rendered, for tests that need what a record says and no picture."""

from __future__ import annotations

from typing import Any

from edge_sdk.clips import SceneRecord

# Foreseeable, first contact, last motion; seconds of a clip of 8 s.
CRASH_S = (2.0, 3.5, 6.0)


# Any: fields of a record, which is typed where it is defined.
def scene_record(times_s: tuple[float, float, float] | None = CRASH_S, **changes: Any) -> SceneRecord:
    """A clip of 8 s from the roadside with a crash at `times_s`, without one for None; `changes` are its fields."""
    crash = times_s is not None
    foreseen_s, start_s, end_s = times_s or (None, None, None)
    fields: dict[str, Any] = {
        "name": "scene_1",
        "seed": 1,
        "generator": "2",
        "view": "roadside",
        "kind": "side" if crash else "normal",
        "scenario": "crossing",
        "crash": crash,
        "ego_involved": False,
        "light": "day",
        "weather": "rain",
        "fps": 10.0,
        "width": 320,
        "height": 192,
        "frames": 80,
        "duration_s": 8.0,
        "pre_crash_start_s": foreseen_s,
        "crash_start_s": start_s,
        "crash_end_s": end_s,
        "min_gap_m": 0.0 if crash else None,
        "bitrate_kbps": 300,
    }
    return SceneRecord(**(fields | changes))
