"""What is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError
from edge_sdk.toolchain.distillation import make_student, refit, tune_student


def test_a_bundle_that_exists_is_refused_before_clips_are_read_or_rendered(tmp_path: Path) -> None:
    nowhere = tmp_path / "no clips"
    for start in (
        lambda: make_student("student", tmp_path, tmp_path),
        lambda: tune_student(None, nowhere, nowhere, tmp_path, tmp_path),
        lambda: refit(None, nowhere, tmp_path),
    ):
        with pytest.raises(ConfigError, match=r"exists already; choose another folder or remove it"):
            start()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("crashes", "others"), [(10, 9), (20, 0), (0, 20)])
def test_clips_that_no_operating_point_can_be_fitted_on_are_refused_before_training(
    tmp_path: Path, crashes: int, others: int
) -> None:
    for folder, kinds in (("training", "yn"), ("validation", "y" * crashes + "n" * others)):
        (tmp_path / folder).mkdir()
        rows = ["clip,view,crash,crash_start_s,crash_end_s,group"]
        for number, kind in enumerate(kinds):
            (tmp_path / folder / f"{number}.mp4").touch()
            crash = "yes,2.0,3.0" if kind == "y" else "no,,"
            rows.append(f"{number}.mp4,dashcam,{crash},{folder}{number}")
        (tmp_path / folder / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match=f"at least 20 clips.*found {crashes + others} clips, {crashes} crashes"):
        tune_student(None, tmp_path / "training", tmp_path / "validation", tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work").exists()
