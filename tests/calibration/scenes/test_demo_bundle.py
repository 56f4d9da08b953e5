"""The committed bundle: small enough to travel, and quiet on a normal drive."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_needs import need_drawing

from edge_sdk.analysis import analyze
from edge_sdk.bundle import default_bundle
from edge_sdk.calibration.scenes.render import render

MOST_MB = 12.0


def test_the_demo_bundle_fits_into_what_a_repository_may_hold() -> None:
    files = [path for path in default_bundle().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) / 1e6 <= MOST_MB


@pytest.mark.parametrize("seed", [26_000_005, 26_000_008])
def test_a_normal_drive_stays_quiet(seed: int, tmp_path: Path) -> None:
    """One from a car and one from the roadside; how often others are not quiet is in the tables of results."""
    need_drawing()
    (record,) = render([seed], tmp_path, family="close")
    assert record.kind == "normal"
    found = analyze(tmp_path / f"{record.name}.mp4")
    assert (found.analysis.events, found.alarms_s) == ((), ())
