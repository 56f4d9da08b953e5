"""Prepared samples come back from disk as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import Sample
from edge_sdk.evaluation.prepared_file import read_prepared, write_prepared
from edge_sdk.evaluation.protocol import Prepared


def test_samples_come_back_and_are_missed_when_gone(tmp_path: Path) -> None:
    sample = Sample(
        path=tmp_path / "a.crash.mp4",
        track="streams",
        kind="crash",
        set="CCD",
        view="dashcam",
        group="g",
        duration_s=4.2,
        start_s=1.1,
        scored_s=(1.0, 3.0),
        shadows_s=((1.0, 2.5), (3.0, 4.5)),
    )
    prepared = Prepared(samples=(sample,), skipped=(("b", "too short"),))
    sample.path.write_bytes(b"video")
    write_prepared(tmp_path / "prepared.json", prepared)
    assert read_prepared(tmp_path / "prepared.json") == prepared
    sample.path.unlink()
    with pytest.raises(ConfigError, match="1 samples that do not exist"):
        read_prepared(tmp_path / "prepared.json")
    (tmp_path / "prepared.json").write_text("{}")
    with pytest.raises(ConfigError, match="not readable"):
        read_prepared(tmp_path / "prepared.json")
