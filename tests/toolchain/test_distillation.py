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
