"""Checkpoints of a run are whole, or the ones before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from edge_sdk.export.state_file import save_state

TOO_LARGE = """
import resource, sys
from pathlib import Path
import torch
from edge_sdk.export.state_file import save_state
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_state(Path(sys.argv[1]), {"weights": torch.zeros(100_000)})
except OSError as error:
    print(error)
"""


def test_a_checkpoint_that_finds_no_room_says_so_and_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.pt"
    save_state(path, {"step": 3, "weights": torch.arange(5.0)})
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == f"[Errno 27] File too large: {str(path)!r}"
    held = torch.load(path, weights_only=True)
    assert held["step"] == 3
    assert torch.equal(held["weights"], torch.arange(5.0))
    assert [each.name for each in path.parent.iterdir()] == ["run.pt"]
