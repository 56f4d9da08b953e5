"""A program runs in any folder, a checkout without the compiled part among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.bundle import Bundle
from edge_sdk.explaining import ReasonerProcess, ReasonerSettings, Reply


def test_the_process_takes_no_module_from_the_working_folder(
    asking: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("edge_sdk", "numpy", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('taken from the working folder')\n")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((60, 90, 3), np.uint8)
    with ReasonerProcess(asking, ReasonerSettings(priority=0)) as process, process.begin() as shown:
        shown.push(picture, 0.0)
        (reply,) = [item for item in shown.ask(["recognition"]) if isinstance(item, Reply)]
    assert reply.task == "recognition"
