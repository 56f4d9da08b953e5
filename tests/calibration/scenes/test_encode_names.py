"""The file that an encoder of scenes writes, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.calibration.scenes.encode import encoder


@pytest.mark.parametrize("name", ["plain.mp4", "a b'\"!#%20 ü.mp4", 'x" ! filesink location="stolen'])
def test_a_name_is_a_name_and_no_part_of_a_pipeline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with encoder(Path("out") / name, (64, 48), 10.0, 200, 5) as film:
        for shade in (10, 90, 170):
            film.write(np.full((48, 64, 3), shade, np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (made,) = (tmp_path / "out").iterdir()
    assert made.name == name
    assert made.read_bytes()[4:8] == b"ftyp"
